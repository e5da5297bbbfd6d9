//! libyaml 0.2.2.
const ctx = @import("context.zig");

pub fn build(c: ctx.Context) ctx.Library {
    const include = c.dep("libyaml/include");
    const m = c.module(false);
    m.addIncludePath(include);
    m.addCSourceFiles(.{
        .root = c.dep("libyaml/src"),
        .files = &.{ "api.c", "dumper.c", "emitter.c", "loader.c", "parser.c", "reader.c", "scanner.c", "writer.c" },
        .flags = c.flags(&.{
            "-std=gnu11",              "-fvisibility=hidden",     "-DYAML_DECLARE_STATIC",
            "-DYAML_VERSION_MAJOR=0",  "-DYAML_VERSION_MINOR=2",  "-DYAML_VERSION_PATCH=2",
            "-DYAML_VERSION_STRING=\"0.2.2\"",
        }),
    });
    return ctx.one(c, c.library("yaml", m), &.{include});
}
