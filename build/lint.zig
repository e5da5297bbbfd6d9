//! What tools/lint.py needs to know: the flags of our C and C++ files, one a line, as
//! lint/cflags and lint/cxxflags under the prefix.
const std = @import("std");
const ctx = @import("context.zig");
const rooms = @import("rooms.zig");
const Libs = @import("libs.zig").Libs;

pub fn flags(c: ctx.Context, libs: Libs, step: *std.Build.Step) void {
    write(c, libs, "lint/cflags", rooms.cFlags(c), step);
    write(c, libs, "lint/cxxflags", rooms.cxxFlags(c), step);
}

// Some headers are written by the build: only a step that runs knows where they are.
fn write(c: ctx.Context, libs: Libs, path: []const u8, list: []const []const u8, step: *std.Build.Step) void {
    const print = c.b.addSystemCommand(&.{ "printf", "%s\\n" });
    print.addArgs(list);
    for (libs.all()) |l| for (l.includes) |i| print.addPrefixedDirectoryArg("-I", i);
    print.addPrefixedDirectoryArg("-I", c.dep("boringssl")); // of tls/record.cc
    step.dependOn(&c.b.addInstallFile(print.captureStdOut(.{}), path).step);
}
