//! Our own code: one static library a room, in the order in which they may include each other.
//! A library's headers are visible only to the rooms that may use it.
const std = @import("std");
const ctx = @import("context.zig");
const Libs = @import("libs.zig").Libs;

pub const names = [_][]const u8{ "core", "config", "tls", "route", "quic", "proto", "upstream", "proxy", "admin" };

const warnings: []const []const u8 = &.{
    "-std=gnu17", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Wshadow", "-Wpointer-arith", "-Wstrict-prototypes",
    "-Wmissing-prototypes", "-Werror", "-fno-common", "-fno-strict-aliasing",
};
const cxx: []const []const u8 = &.{ "-std=c++17", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-fno-exceptions", "-fno-rtti" };

pub fn cFlags(c: ctx.Context) []const []const u8 {
    const mode: []const []const u8 = if (c.optimize == .debug) &.{"-DSLUICE_DEBUG"} else &.{};
    const version: []const []const u8 = &.{c.b.fmt("-DSLUICE_VERSION=\"{s}\"", .{@import("version.zig").text})};
    return c.flags(std.mem.concat(c.b.allocator, []const u8, &.{ warnings, mode, version }) catch @panic("OOM"));
}

/// Without AddressSanitizer: libc++ would annotate its containers for a newer runtime than gcc's,
/// and for RE2, which is not instrumented, wrongly.
pub fn cxxFlags(c: ctx.Context) []const []const u8 {
    return if (c.sanitize == .address) c.unnamed(cxx) else c.flags(c.unnamed(cxx));
}

/// The libraries of all rooms. `without`: files of core to leave out (the simulator brings its own).
pub fn build(c: ctx.Context, libs: Libs, suffix: []const u8, without: []const []const u8) []const *ctx.Compile {
    var out: std.ArrayList(*ctx.Compile) = .empty;
    for (names) |room| {
        const folder = c.b.fmt("src/{s}", .{room});
        const sources = keep(c, c.listOwn(folder, &.{".c"}), without);
        const cc = c.listOwn(folder, &.{".cc"});
        if (sources.len + cc.len == 0) continue;
        const m = c.module(cc.len > 0);
        m.addIncludePath(c.b.path("src"));
        m.addCSourceFiles(.{ .root = c.b.path(folder), .files = sources, .flags = cFlags(c) });
        m.addCSourceFiles(.{ .root = c.b.path(folder), .files = cc, .flags = cxxFlags(c) });
        fence(c, room, libs, m);
        const l = c.library(c.b.fmt("sluice_{s}{s}", .{ room, suffix }), m);
        l.lto = lto(c);
        out.append(c.b.allocator, l) catch @panic("OOM");
    }
    return out.items;
}

/// Our own code is small and calls across files all the time; the libraries are neither.
pub fn lto(c: ctx.Context) ?std.zig.LtoMode {
    return if (c.optimize == .fast) .full else null;
}

fn keep(c: ctx.Context, files: []const []const u8, without: []const []const u8) []const []const u8 {
    var out: std.ArrayList([]const u8) = .empty;
    next: for (files) |f| {
        for (without) |w| if (std.mem.eql(u8, f, w)) continue :next;
        out.append(c.b.allocator, f) catch @panic("OOM");
    }
    return out.items;
}

fn fence(c: ctx.Context, room: []const u8, libs: Libs, m: *ctx.Module) void {
    const eql = std.mem.eql;
    if (eql(u8, room, "core")) libs.liburing.into(m);
    if (eql(u8, room, "config")) libs.libyaml.into(m);
    if (eql(u8, room, "tls")) {
        libs.boringssl.into(m);
        m.addSystemIncludePath(c.dep("boringssl")); // record.cc reads ssl/internal.h
    }
    if (eql(u8, room, "route")) libs.re2.into(m);
    if (eql(u8, room, "quic")) {
        libs.boringssl.into(m);
        libs.ngtcp2.into(m);
    }
    if (eql(u8, room, "proto")) {
        libs.nghttp2.into(m);
        libs.nghttp3.into(m);
    }
}

/// Links every room (later ones first) and every library.
pub fn link(m: *ctx.Module, rooms: []const *ctx.Compile, libs: Libs) void {
    var i = rooms.len;
    while (i > 0) {
        i -= 1;
        m.linkLibrary(rooms[i]);
    }
    libs.link(m);
}
