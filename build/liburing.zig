//! liburing 2.15. Its configure script writes two headers; they are written here.
const ctx = @import("context.zig");

pub fn build(c: ctx.Context) ctx.Library {
    const written = c.b.addWriteFiles();
    _ = written.add("liburing/io_uring_version.h",
        \\#ifndef LIBURING_VERSION_H
        \\#define LIBURING_VERSION_H
        \\#define IO_URING_VERSION_MAJOR 2
        \\#define IO_URING_VERSION_MINOR 15
        \\#endif
        \\
    );
    _ = written.add("liburing/compat.h",
        \\#ifndef LIBURING_COMPAT_H
        \\#define LIBURING_COMPAT_H
        \\#include <linux/time_types.h>
        \\#define UAPI_LINUX_IO_URING_H_SKIP_LINUX_TIME_TYPES_H 1
        \\#include <linux/openat2.h>
        \\#include <linux/ioctl.h>
        \\#ifndef BLOCK_URING_CMD_DISCARD
        \\#define BLOCK_URING_CMD_DISCARD _IO(0x12, 0)
        \\#endif
        \\#endif
        \\
    );
    const include = c.dep("liburing/src/include");
    const m = c.module(false);
    m.addIncludePath(include);
    m.addIncludePath(written.getDirectory());
    m.addCSourceFiles(.{
        .root = c.dep("liburing/src"),
        .files = &.{ "setup.c", "queue.c", "register.c", "syscall.c", "version.c" },
        .flags = c.flags(ctx.c_flags ++ &[_][]const u8{
            "-D_GNU_SOURCE",             "-D_LARGEFILE_SOURCE",        "-D_FILE_OFFSET_BITS=64",
            "-DLIBURING_INTERNAL",       "-DCONFIG_HAVE_KERNEL_RWF_T", "-DCONFIG_HAVE_KERNEL_TIMESPEC",
            "-DCONFIG_HAVE_OPEN_HOW",    "-DCONFIG_HAVE_STATX",        "-DCONFIG_HAVE_GLIBC_STATX",
            "-DCONFIG_HAVE_FUTEXV",      "-Wno-unused-parameter",
        }),
    });
    return ctx.one(c, c.library("uring", m), &.{ include, written.getDirectory() });
}
