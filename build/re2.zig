//! RE2 of 2023-03-01, the last release without Abseil: the same syntax and semantics, a
//! twentieth of the source.
const ctx = @import("context.zig");

pub fn build(c: ctx.Context) ctx.Library {
    const include = c.dep("re2");
    const m = c.module(true);
    m.addIncludePath(include);
    m.addCSourceFiles(.{
        .root = include,
        .files = &.{
            "re2/bitmap256.cc",   "re2/bitstate.cc",       "re2/compile.cc",     "re2/dfa.cc",
            "re2/filtered_re2.cc", "re2/mimics_pcre.cc",   "re2/nfa.cc",         "re2/onepass.cc",
            "re2/parse.cc",       "re2/perl_groups.cc",    "re2/prefilter.cc",   "re2/prefilter_tree.cc",
            "re2/prog.cc",        "re2/re2.cc",            "re2/regexp.cc",      "re2/set.cc",
            "re2/simplify.cc",    "re2/stringpiece.cc",    "re2/tostring.cc",    "re2/unicode_casefold.cc",
            "re2/unicode_groups.cc", "util/rune.cc",       "util/strutil.cc",
        },
        .flags = c.flags(c.unnamed(&.{ "-std=c++17", "-fno-exceptions", "-fno-rtti", "-fvisibility=hidden", "-pthread" })),
    });
    return ctx.one(c, c.library("re2", m), &.{include});
}
