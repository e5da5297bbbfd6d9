//! Test programs: one for each folder under tests/unit, the simulation, the fuzz corpora.
const std = @import("std");
const ctx = @import("context.zig");
const rooms = @import("rooms.zig");
const Libs = @import("libs.zig").Libs;

fn program(c: ctx.Context, libs: Libs, all: []const *ctx.Compile, name: []const u8, folder: []const u8, files: []const []const u8, extra: []const []const u8) *ctx.Compile {
    const m = c.module(true);
    m.addIncludePath(c.b.path("src"));
    m.addIncludePath(c.b.path("tests/unit"));
    libs.into(m);
    for (files) |f| {
        const is_cc = std.mem.endsWith(u8, f, ".cc");
        m.addCSourceFiles(.{ .root = c.b.path(folder), .files = &.{f}, .flags = if (is_cc) rooms.cxxFlags(c) else rooms.cFlags(c) });
    }
    for (extra) |f| m.addCSourceFile(.{ .file = c.b.path(f), .flags = rooms.cFlags(c) });
    rooms.link(m, all, libs);
    return c.executable(name, m);
}

pub fn unit(c: ctx.Context, libs: Libs, all: []const *ctx.Compile, step: *std.Build.Step) void {
    for (rooms.names ++ [_][]const u8{"libs"}) |room| {
        const folder = c.b.fmt("tests/unit/{s}", .{room});
        const files = c.listOwn(folder, &.{ ".c", ".cc" });
        if (files.len == 0) continue;
        const e = program(c, libs, all, c.b.fmt("unit-{s}", .{room}), folder, files, &.{"tests/unit/test_main.c"});
        step.dependOn(&c.b.addInstallArtifact(e, .{}).step);
    }
}

pub fn sim(c: ctx.Context, libs: Libs, step: *std.Build.Step) void {
    const files = c.listOwn("tests/sim", &.{".c"});
    if (files.len == 0) return;
    const all = rooms.build(c, libs, "_sim", &.{ "ring.c", "ring_socket.c", "ring_probe.c", "bufring_kernel.c", "clock.c" });
    const e = program(c, libs, all, "sim", "tests/sim", files, &.{"tests/unit/test_main.c"});
    step.dependOn(&c.b.addInstallArtifact(e, .{}).step);
}

/// fuzz_NAME.c with a driver that replays its corpus, or with libFuzzer where `-Dfuzz` is given.
pub fn fuzz(c: ctx.Context, libs: Libs, all: []const *ctx.Compile, runtime: []const u8, step: *std.Build.Step) void {
    for (c.listOwn("tests/fuzz", &.{".c"})) |f| {
        if (!std.mem.startsWith(u8, f, "fuzz_")) continue;
        const driver: []const []const u8 = if (c.fuzz) &.{} else &.{"tests/fuzz/replay_main.c"};
        const e = program(c, libs, all, f[0 .. f.len - 2], "tests/fuzz", &.{f}, driver);
        if (c.fuzz) {
            e.root_module.addObjectFile(c.b.graph.cwdRelativePath(runtime));
            e.root_module.addObjectFile(c.b.graph.cwdRelativePath("/usr/lib/x86_64-linux-gnu/libstdc++.so.6"));
        }
        step.dependOn(&c.b.addInstallArtifact(e, .{}).step);
    }
}

/// What is preloaded into the virtual machine of the end-to-end tests, on CPUs of its kind only.
pub fn preload(c: ctx.Context, step: *std.Build.Step) void {
    if (c.target.result.cpu.arch != .x86_64 or c.target.result.abi.isMusl()) return;
    const m = c.b.createModule(.{ .target = c.target, .optimize = .fast, .link_libc = true, .pic = true });
    m.addCSourceFile(.{ .file = c.b.path("tests/vm/xstate.c"), .flags = rooms.cFlags(c) });
    const l = c.b.addLibrary(.{ .name = "vm-xstate", .linkage = .dynamic, .root_module = m });
    step.dependOn(&c.b.addInstallArtifact(l, .{}).step);
}

/// Small programs: bench/load (bench-NAME), bench/micro (micro-NAME), tools (NAME).
pub fn programs(c: ctx.Context, libs: Libs, all: []const *ctx.Compile, folder: []const u8, prefix: []const u8, step: *std.Build.Step) void {
    for (c.listOwn(folder, &.{".c"})) |f| {
        const e = program(c, libs, all, c.b.fmt("{s}{s}", .{ prefix, f[0 .. f.len - 2] }), folder, &.{f}, &.{});
        step.dependOn(&c.b.addInstallArtifact(e, .{}).step);
    }
}
