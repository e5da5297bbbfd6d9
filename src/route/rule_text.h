// A rule in words, for listings and `sluice explain`, and for the name of its statistics.
#pragma once
#include "core/arena.h"
#include "route/rule.h"

// The path as `istioctl proxy-config routes` prints it ("/productpage", "/static*",
// "regex /v[0-9]+"), then what else is asked of a request, which istioctl leaves out, so that rules
// of one path can be told apart:
//
//     /reviews* method=GET header:end-user=jason query:v=2* header:x-id~[0-9]+ !header:x-bot
//
// `=` exactly, with `*` at the end: begins with, `~` a regular expression, neither: is there;
// `!` is for withoutHeaders. In `arena`, NUL-terminated.
struct slice rule_text(const struct rule *r, struct arena *arena);
// The same without what headers and query parameters are held against (`header:x-api-key=`), which
// may be secret: for the statistics, which whoever scrapes them can read.
struct slice rule_label(const struct rule *r, struct arena *arena);
