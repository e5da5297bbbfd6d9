//! ngtcp2 1.25.0: QUIC, with its helper for BoringSSL.
const std = @import("std");
const ctx = @import("context.zig");

pub fn build(c: ctx.Context, boringssl: ctx.Library) ctx.Library {
    const version = ctx.versionHeader(c, "ngtcp2/lib/includes/ngtcp2/version.h.in", "ngtcp2/version.h", .{ .major = 1, .minor = 25, .patch = 0 });
    const include = c.dep("ngtcp2/lib/includes");
    const crypto_include = c.dep("ngtcp2/crypto/includes");
    const flags = c.flags(ctx.ng_flags ++ &[_][]const u8{ "-DBUILDING_NGTCP2", "-DNGTCP2_STATICLIB" });

    const m = c.module(false);
    m.addIncludePath(include);
    m.addIncludePath(version);
    m.addCSourceFiles(.{
        .root = c.dep("ngtcp2/lib"),
        .files = c.list(c.b.pathJoin(&.{ c.deps, "ngtcp2/lib" }), &.{".c"}),
        .flags = flags,
    });

    const helper = c.module(false);
    for ([_]std.Build.LazyPath{ include, version, crypto_include, c.dep("ngtcp2/lib"), c.dep("ngtcp2/crypto") }) |p|
        helper.addIncludePath(p);
    boringssl.into(helper);
    helper.addCSourceFiles(.{ .root = c.dep("ngtcp2/crypto"), .files = &.{ "boringssl/boringssl.c", "shared.c" }, .flags = flags });

    const archives = c.b.allocator.dupe(*ctx.Compile, &.{ c.library("ngtcp2_crypto_boringssl", helper), c.library("ngtcp2", m) }) catch @panic("OOM");
    return .{ .archives = archives, .includes = c.b.allocator.dupe(std.Build.LazyPath, &.{ include, version, crypto_include }) catch @panic("OOM") };
}
