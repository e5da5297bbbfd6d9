// Messages that several Istio kinds use.
#pragma once
#include "config/schema.h"

// StringMatch into a struct string_match at `offset`; unlike the pointer form it is always there.
void read_string_match(struct reader *r, const struct yaml_node *node, const struct path *path,
                       struct string_match *out);
// Custom field readers.
void read_string_match_field(struct reader *r, const struct yaml_node *node,
                             const struct path *path, void *base, uint32_t offset); // pointer
void read_named_matches(struct reader *r, const struct yaml_node *node, const struct path *path,
                        void *base, uint32_t offset); // struct named_match_list
void read_port_selector(struct reader *r, const struct yaml_node *node, const struct path *path,
                        void *base, uint32_t offset); // {number: N} into a uint32_t
void read_percent(struct reader *r, const struct yaml_node *node, const struct path *path,
                  void *base, uint32_t offset); // {value: 0.1} into a struct percent

extern const struct message message_destination, message_workload_entry;
extern const struct message message_string_match, message_port_selector, message_percent;
