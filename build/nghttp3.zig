//! nghttp3 1.18.0: HTTP/3 framing and QPACK, with its structured-field parser.
const std = @import("std");
const ctx = @import("context.zig");

pub fn build(c: ctx.Context) ctx.Library {
    const version = ctx.versionHeader(c, "nghttp3/lib/includes/nghttp3/version.h.in", "nghttp3/version.h", .{ .major = 1, .minor = 18, .patch = 0 });
    const include = c.dep("nghttp3/lib/includes");
    const m = c.module(false);
    m.addIncludePath(include);
    m.addIncludePath(version);
    m.addIncludePath(c.dep("nghttp3/lib")); // "sfparse/sfparse.h"
    const files = std.mem.concat(c.b.allocator, []const u8, &.{
        c.list(c.b.pathJoin(&.{ c.deps, "nghttp3/lib" }), &.{".c"}), &.{"sfparse/sfparse.c"},
    }) catch @panic("OOM");
    m.addCSourceFiles(.{
        .root = c.dep("nghttp3/lib"),
        .files = files,
        .flags = c.flags(ctx.ng_flags ++ &[_][]const u8{ "-DBUILDING_NGHTTP3", "-DNGHTTP3_STATICLIB" }),
    });
    return ctx.one(c, c.library("nghttp3", m), &.{ include, version });
}
