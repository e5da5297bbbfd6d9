#include "core/selfcheck.h"
#include "test.h"

TEST(selfcheck_passes_here_and_speaks_in_sentences)
{
    struct selfcheck c;
    selfcheck_run(&c, &(struct selfcheck_wants){.connections = 1000});
    EXPECT(selfcheck_passed(&c));
    EXPECT(c.count >= 4);
    for (uint32_t i = 0; i < c.count; i++) {
        size_t n = strlen(c.items[i].text);
        EXPECT(n > 5 && n < sizeof(c.items[i].text) - 1); // not cut off
        EXPECT(strchr(c.items[i].text, '\n') == NULL);
    }
    c.items[c.count - 1].status = SELFCHECK_MISSING;
    EXPECT(!selfcheck_passed(&c));
}

TEST(selfcheck_tells_when_descriptors_are_few)
{
    struct selfcheck c;
    selfcheck_run(&c, &(struct selfcheck_wants){.connections = 100000000});
    bool found = false;
    for (uint32_t i = 0; i < c.count; i++)
        found |= strcmp(c.items[i].name, "open_files") == 0 && c.items[i].status == SELFCHECK_NOTE;
    EXPECT(found);
}
