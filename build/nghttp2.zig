//! nghttp2 1.68.1: HTTP/2 framing and HPACK.
const ctx = @import("context.zig");

pub fn build(c: ctx.Context) ctx.Library {
    const version = ctx.versionHeader(c, "nghttp2/lib/includes/nghttp2/nghttp2ver.h.in", "nghttp2/nghttp2ver.h", .{ .major = 1, .minor = 68, .patch = 1 });
    const include = c.dep("nghttp2/lib/includes");
    const m = c.module(false);
    m.addIncludePath(include);
    m.addIncludePath(version);
    m.addCSourceFiles(.{
        .root = c.dep("nghttp2/lib"),
        .files = c.list(c.b.pathJoin(&.{ c.deps, "nghttp2/lib" }), &.{".c"}),
        .flags = c.flags(ctx.ng_flags ++ &[_][]const u8{ "-DBUILDING_NGHTTP2", "-DNGHTTP2_STATICLIB" }),
    });
    return ctx.one(c, c.library("nghttp2", m), &.{ include, version });
}
