//! BoringSSL from its own source lists (gen/sources.cmake). The crypto library is cut into four
//! archives, because one archive compiles on all cores but one: 90 s instead of 162 s on two.
const std = @import("std");
const ctx = @import("context.zig");

const cxx_flags: []const []const u8 = &.{
    "-std=c++17",              "-fno-exceptions",         "-fno-rtti",
    "-fno-strict-aliasing",    "-fno-common",             "-fvisibility=hidden",
    "-DBORINGSSL_IMPLEMENTATION", "-D_XOPEN_SOURCE=700", "-Wall",
};
const parts = 4;

pub fn build(c: ctx.Context) ctx.Library {
    const b = c.b;
    const lists = readLists(c);
    const crypto = cmakeList(c, lists, "CRYPTO_SOURCES", false);
    var archives: [parts + 2]*ctx.Compile = undefined;
    for (0..parts) |i| {
        var mine: std.ArrayList([]const u8) = .empty;
        for (crypto, 0..) |f, j| if (j % parts == i) mine.append(b.allocator, f) catch @panic("OOM");
        archives[2 + i] = archive(c, b.fmt("crypto{d}", .{i}), mine.items, &.{});
    }
    const assembly = std.mem.concat(b.allocator, []const u8, &.{
        cmakeList(c, lists, "BCM_SOURCES_ASM", true), cmakeList(c, lists, "CRYPTO_SOURCES_ASM", true),
    }) catch @panic("OOM");
    archives[0] = archive(c, "ssl", cmakeList(c, lists, "SSL_SOURCES", false), &.{});
    archives[1] = archive(c, "bcm", cmakeList(c, lists, "BCM_SOURCES", false), assembly);
    return .{
        .archives = b.allocator.dupe(*ctx.Compile, &archives) catch @panic("OOM"),
        .includes = b.allocator.dupe(std.Build.LazyPath, &.{c.dep("boringssl/include")}) catch @panic("OOM"),
    };
}

fn archive(c: ctx.Context, name: []const u8, sources: []const []const u8, assembly: []const []const u8) *ctx.Compile {
    const m = c.module(true);
    m.addIncludePath(c.dep("boringssl/include"));
    m.addCSourceFiles(.{ .root = c.dep("boringssl"), .files = sources, .flags = c.flags(c.unnamed(cxx_flags)) });
    if (assembly.len > 0)
        m.addCSourceFiles(.{ .root = c.dep("boringssl"), .files = assembly, .flags = &.{"-Wa,--noexecstack"} });
    return c.library(name, m);
}

fn readLists(c: ctx.Context) []const u8 {
    const path = c.b.pathJoin(&.{ c.deps, "boringssl/gen/sources.cmake" });
    return std.Io.Dir.cwd().readFileAlloc(c.b.graph.io, path, c.b.allocator, .limited(4 << 20)) catch
        std.debug.panic("{s} cannot be read: fetch the sources with ./dev build, or name their folder with -Ddeps=DIR", .{path});
}

/// The files of `set(\n  NAME\n\n  file ...)`.
fn cmakeList(c: ctx.Context, text: []const u8, name: []const u8, linux_only: bool) []const []const u8 {
    var out: std.ArrayList([]const u8) = .empty;
    var lines = std.mem.splitScalar(u8, text, '\n');
    var inside = false;
    while (lines.next()) |raw| {
        const line = std.mem.trim(u8, raw, " \r\t");
        if (!inside) {
            inside = std.mem.eql(u8, line, name);
            continue;
        }
        if (line.len == 0) continue;
        if (line[0] == ')') return out.items;
        if (linux_only and (std.mem.endsWith(u8, line, "-apple.S") or std.mem.endsWith(u8, line, "-win.S"))) continue;
        out.append(c.b.allocator, line) catch @panic("OOM");
    }
    std.debug.panic("list {s} not found in sources.cmake", .{name});
}
