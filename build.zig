//! Steps:
//!   zig build                the gateway, zig-out/bin/sluice
//!   zig build release        the same without symbols, zig-out/release/sluice-VERSION-TARGET
//!   zig build tools          the demo's backend and other small programs
//!   zig build unit           unit-ROOM test programs
//!   zig build sim            the simulation
//!   zig build fuzz           fuzz targets (with -Dfuzz: libFuzzer, else corpus replay)
//!   zig build lint           the flags that tools/lint.py hands to clang-tidy
//!   zig build bench-tools    load generator, backend, bare relay, micro-benchmarks
//! Options: -Ddeps=DIR -Dsanitize=none|address|undefined|thread -Dfuzz -Doptimize=… -Dtarget=…
//! `./dev` calls these with the right folders; see CONTRIBUTING.md.
const std = @import("std");
const ctx = @import("build/context.zig");
const lint = @import("build/lint.zig");
const rooms = @import("build/rooms.zig");
const tests = @import("build/tests.zig");
const Libs = @import("build/libs.zig").Libs;
const version = @import("build/version.zig").text;

pub fn build(b: *std.Build) void {
    const gcc_asan = "/usr/lib/gcc/x86_64-linux-gnu/12/libasan.so";
    const llvm_fuzzer = "/usr/lib/llvm-19/lib/clang/19/lib/linux/libclang_rt.fuzzer-x86_64.a";
    const c: ctx.Context = .{
        .b = b,
        .target = b.standardTargetOptions(.{}),
        .optimize = b.standardOptimizeOption(.{}),
        .sanitize = b.option(ctx.Sanitize, "sanitize", "none, address, undefined or thread") orelse .none,
        .deps = b.option([]const u8, "deps", "folder with the libraries' sources") orelse "deps",
        .asan_runtime = b.option([]const u8, "asan-runtime", "shared AddressSanitizer runtime") orelse gcc_asan,
        .fuzz = b.option(bool, "fuzz", "build fuzz targets with libFuzzer") orelse false,
    };
    // Not read: a new value makes the build be configured anew (see ./dev).
    _ = b.option([]const u8, "listing", "digest of the list of source files");
    const fuzzer = b.option([]const u8, "fuzz-runtime", "libclang_rt.fuzzer archive") orelse llvm_fuzzer;
    const libs = Libs.build(c);
    const all = rooms.build(c, libs, "", &.{});

    if (c.listOwn("src", &.{"main.c"}).len > 0) gateway(c, libs, all);
    tests.unit(c, libs, all, b.step("unit", "build the unit tests"));
    tests.sim(c, libs, b.step("sim", "build the simulation"));
    tests.fuzz(c, libs, all, fuzzer, b.step("fuzz", "build the fuzz targets"));
    lint.flags(c, libs, b.step("lint", "write the flags for clang-tidy"));
    const bench = b.step("bench-tools", "build the benchmark's programs");
    tests.programs(c, libs, all, "bench/load", "bench-", bench);
    tests.programs(c, libs, all, "bench/micro", "micro-", bench);
    const tools = b.step("tools", "build small programs");
    tests.programs(c, libs, all, "tools", "", tools);
    tests.preload(c, tools);
}

fn gateway(c: ctx.Context, libs: Libs, all: []const *ctx.Compile) void {
    c.b.installArtifact(gatewayProgram(c, libs, all, "sluice", false));
    // Linked again from the same archives: only the linker's output is stripped.
    const t = c.target.result;
    const bare = gatewayProgram(c, libs, all, "sluice-stripped", true);
    const install = c.b.addInstallFile(bare.getEmittedBin(), c.b.fmt("release/sluice-{s}-{t}-{t}-{t}", .{ version, t.cpu.arch, t.os.tag, t.abi }));
    c.b.step("release", "the gateway without symbols").dependOn(&install.step);
}

fn gatewayProgram(c: ctx.Context, libs: Libs, all: []const *ctx.Compile, name: []const u8, strip: bool) *ctx.Compile {
    const m = c.module(true);
    if (strip) m.strip = true;
    m.addIncludePath(c.b.path("src"));
    m.addCSourceFile(.{ .file = c.b.path("src/main.c"), .flags = rooms.cFlags(c) });
    rooms.link(m, all, libs);
    const e = c.executable(name, m);
    e.lto = rooms.lto(c);
    return e;
}
