// Messages as tables: what a YAML map may hold, of which type, and where in a C struct it goes. One
// generic reader fills every message; an entry is all a new field needs.
#pragma once
#include "config/yaml.h"
#include <stddef.h>

enum field_type {
    FIELD_STRING,     // struct slice
    FIELD_BOOL,       // bool
    FIELD_TRISTATE,   // int8_t: -1 absent, 0, 1
    FIELD_U32,        // uint32_t, 0 absent
    FIELD_I32,        // int32_t, 0 absent
    FIELD_I32_UNSET,  // int32_t, -1 absent
    FIELD_I64_UNSET,  // int64_t in the range of uint32, -1 absent
    FIELD_U64,        // uint64_t, 0 absent
    FIELD_DOUBLE,     // double, 0 absent
    FIELD_DURATION,   // uint64_t nanoseconds, DURATION_UNSET absent
    FIELD_TIME,       // uint64_t, seconds since 1970 of an RFC 3339 time
    FIELD_ENUM,       // an enum; child: struct enum_type
    FIELD_STRINGS,    // struct string_list
    FIELD_STRING_MAP, // struct label_map
    FIELD_U32_LIST,   // uint32_t *, count at `extra`
    FIELD_MESSAGE,    // a pointer, NULL absent; child: struct message
    FIELD_INLINE,   // a message whose fields lie in this same struct; child's offsets count from it
    FIELD_MESSAGES, // pointer to an array, uint32_t count at `extra`; child
    FIELD_CUSTOM,   // child: struct custom_field
    FIELD_SKIPPED,  // known and of no meaning here
};

#define NO_OFFSET 0xffffu

struct field {
    const char *name; // camelCase; snake_case is accepted too
    enum field_type type;
    uint16_t offset;
    uint16_t extra; // the count's offset of lists
    uint16_t pos;   // of a struct pos to fill with the value's position, or NO_OFFSET
    uint16_t given; // of a bool to set when present, or NO_OFFSET
    const void *child;
};

struct message {
    const char *name; // "istio.networking.v1alpha3.HTTPRoute", as Istio's errors name it
    const struct field *fields;
    uint32_t field_count;
    uint32_t size; // of the struct
    uint16_t pos;  // of a struct pos for the message itself, or NO_OFFSET
    bool open;     // Kubernetes' messages: unknown fields are passed over
};

struct enum_value {
    const char *name;
    int32_t value;
};
struct enum_type {
    const char *name;
    const struct enum_value *values;
    uint32_t count;
};

// Where the reader stands, for messages: "http[0].match[1].uri".
struct path {
    const struct path *up;
    const char *name; // NULL: an element
    struct slice key; // of a map, when name is NULL and index < 0
    int64_t index;
};

struct reader {
    struct arena *arena; // the model's
    struct findings *findings;
    const struct metadata *object;
    const char *file; // lives as long as the model
    // Set when the schema had something to say: a rule is then silent where it said it
    // (rule_error), and about what is missing (rule_missing), for that may be what was mistyped.
    bool partial;
    uint32_t first_finding; // of this document
};

typedef void (*custom_read)(struct reader *r, const struct yaml_node *node, const struct path *path,
                            void *base, uint32_t offset);
enum custom_shape { CUSTOM_ONE, CUSTOM_LIST, CUSTOM_MAP };
struct custom_field {
    custom_read read;
    // What it reads, for who walks the tables: NULL for a scalar.
    const struct message *message;
    enum custom_shape shape;
};

#define FIELD_(n, t, s, m) .name = (n), .type = (t), .offset = offsetof(s, m)
#define F(n, t, s, m) {FIELD_(n, t, s, m), .pos = NO_OFFSET, .given = NO_OFFSET}
#define F_POS(n, t, s, m, p) {FIELD_(n, t, s, m), .pos = offsetof(s, p), .given = NO_OFFSET}
#define F_GIVEN(n, t, s, m, g) {FIELD_(n, t, s, m), .pos = NO_OFFSET, .given = offsetof(s, g)}
#define F_CHILD(n, t, s, m, c) \
    {FIELD_(n, t, s, m), .pos = NO_OFFSET, .given = NO_OFFSET, .child = &(c)}
#define F_LIST(n, s, m, cnt, c)                                                    \
    {FIELD_(n, FIELD_MESSAGES, s, m), .extra = offsetof(s, cnt), .pos = NO_OFFSET, \
     .given = NO_OFFSET, .child = &(c)}
#define F_INLINE(n, c) \
    {.name = (n), .type = FIELD_INLINE, .pos = NO_OFFSET, .given = NO_OFFSET, .child = &(c)}
#define F_INLINE_AT(n, s, m, c) \
    {FIELD_(n, FIELD_INLINE, s, m), .pos = NO_OFFSET, .given = NO_OFFSET, .child = &(c)}
#define F_CUSTOM(n, s, m, fn) F_CUSTOM_OF(n, s, m, fn, NULL, CUSTOM_ONE)
#define F_CUSTOM_OF(n, s, m, fn, what, how)                                  \
    {                                                                        \
        FIELD_(n, FIELD_CUSTOM, s, m), .pos = NO_OFFSET, .given = NO_OFFSET, \
            .child = &(const struct custom_field)                            \
        {                                                                    \
            fn, what, how                                                    \
        }                                                                    \
    }
#define F_SKIP(n) {.name = (n), .type = FIELD_SKIPPED, .pos = NO_OFFSET, .given = NO_OFFSET}

#define COUNT_OF(a) ((uint32_t)(sizeof(a) / sizeof((a)[0])))
#define MESSAGE(id, full_name, s, table, pos_member) \
    static const struct message id = {               \
        full_name, table, COUNT_OF(table), sizeof(s), offsetof(s, pos_member), false}
#define MESSAGE_NO_POS(id, full_name, s, table)                              \
    static const struct message id = {full_name, table,     COUNT_OF(table), \
                                      sizeof(s), NO_OFFSET, false}
#define MESSAGE_OPEN(id, full_name, s, table) \
    static const struct message id = {full_name, table, COUNT_OF(table), sizeof(s), NO_OFFSET, true}
#define ENUM_TYPE(id, full_name, table) \
    static const struct enum_type id = {full_name, table, COUNT_OF(table)}

// Fills the zeroed struct at `out`; what is wrong becomes findings and stays at its default.
void schema_read(struct reader *r, const struct message *m, const struct yaml_node *node,
                 const struct path *path, void *out);
// The pieces, for custom fields. The scalar ones return false after a finding was added.
bool schema_read_string(struct reader *r, const struct yaml_node *node, const struct path *path,
                        struct slice *out);
bool schema_read_int(struct reader *r, const struct yaml_node *node, const struct path *path,
                     int64_t min, int64_t max, int64_t *out);
bool schema_read_enum(struct reader *r, const struct enum_type *type, const struct yaml_node *node,
                      const struct path *path, int32_t *out);
bool schema_read_duration(struct reader *r, const struct yaml_node *node, const struct path *path,
                          uint64_t *out_ns);
bool schema_expect(struct reader *r, const struct yaml_node *node, enum yaml_kind kind,
                   const struct path *path);
void schema_error(struct reader *r, struct pos pos, const struct path *path, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
void schema_unknown(struct reader *r, const struct message *m, const struct yaml_pair *pair,
                    const struct path *path);
struct pos schema_pos(const struct reader *r,
                      struct pos pos); // with the model's copy of the file name
