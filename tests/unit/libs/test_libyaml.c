// libyaml as built: events carry their positions.
#include "test.h"
#include <yaml.h>

TEST(libyaml_keeps_positions)
{
    const char text[] = "a: 1\nbee:\n  - x\n";
    yaml_parser_t p;
    yaml_event_t e;
    int scalars = 0, done = 0;
    REQUIRE(yaml_parser_initialize(&p));
    yaml_parser_set_input_string(&p, (const unsigned char *)text, sizeof(text) - 1);
    while (!done && yaml_parser_parse(&p, &e)) {
        if (e.type == YAML_SCALAR_EVENT && ++scalars == 4) {
            EXPECT_STR((const char *)e.data.scalar.value, "x");
            EXPECT_EQ(e.start_mark.line, 2);
            EXPECT_EQ(e.start_mark.column, 4);
        }
        done = e.type == YAML_STREAM_END_EVENT;
        yaml_event_delete(&e);
    }
    EXPECT_EQ(scalars, 4);
    yaml_parser_delete(&p);
}
