//! What every part of the build shares: target, mode, sanitizer, where the sources are.
const std = @import("std");
pub const Compile = std.Build.Step.Compile;
pub const Module = std.Build.Module;

pub const Sanitize = enum { none, address, undefined, thread };

pub const Context = struct {
    b: *std.Build,
    target: std.Build.ResolvedTarget,
    optimize: std.lang.Optimize,
    sanitize: Sanitize,
    /// Folder with boringssl/ ngtcp2/ nghttp3/ nghttp2/ liburing/ libyaml/ re2/
    deps: []const u8,
    asan_runtime: []const u8,
    fuzz: bool,

    pub fn dep(c: Context, sub: []const u8) std.Build.LazyPath {
        return c.b.graph.cwdRelativePath(c.b.pathJoin(&.{ c.deps, sub }));
    }

    /// An absolute path in this repository, for reading at configure time.
    pub fn root(c: Context, sub: []const u8) []const u8 {
        const p = c.b.root.join(c.b.allocator, sub) catch @panic("OOM");
        return p.toString(c.b.allocator) catch @panic("OOM");
    }

    pub fn module(c: Context, cpp: bool) *Module {
        return c.b.createModule(.{
            .target = c.target,
            .optimize = c.optimize,
            .link_libc = true,
            .link_libcpp = if (cpp) true else null,
            .sanitize_c = if (c.sanitize == .undefined) .full else .off,
            .sanitize_thread = c.sanitize == .thread,
            .pic = true,
            .omit_frame_pointer = false,
        });
    }

    /// The given C flags with those of the sanitizer or fuzzer.
    /// What names its own file (assertions, log lines) names it without the folder of the sources: a release must not
    /// depend on where it was built.
    pub fn unnamed(c: Context, base: []const []const u8) []const []const u8 {
        const map = c.b.fmt("-fmacro-prefix-map={s}/=", .{c.deps});
        return std.mem.concat(c.b.allocator, []const u8, &.{ base, &.{map} }) catch @panic("OOM");
    }

    pub fn flags(c: Context, base: []const []const u8) []const []const u8 {
        const extra: []const []const u8 = if (c.sanitize == .address and c.fuzz)
            &.{ "-fsanitize=address", "-fsanitize=fuzzer-no-link" }
        else if (c.sanitize == .address)
            &.{"-fsanitize=address"}
        else if (c.fuzz)
            &.{"-fsanitize=fuzzer-no-link"}
        else
            &.{};
        return std.mem.concat(c.b.allocator, []const u8, &.{ base, extra }) catch @panic("OOM");
    }

    pub fn library(c: Context, name: []const u8, m: *Module) *Compile {
        const l = c.b.addLibrary(.{ .name = name, .linkage = .static, .root_module = m });
        l.link_function_sections = true;
        l.link_data_sections = true;
        return l;
    }

    pub fn executable(c: Context, name: []const u8, m: *Module) *Compile {
        // Zig ships no ASan runtime; gcc's shared one is linked as a plain object.
        if (c.sanitize == .address) {
            m.addObjectFile(c.b.graph.cwdRelativePath(c.asan_runtime));
            m.addRPath(c.b.graph.cwdRelativePath(std.fs.path.dirname(c.asan_runtime).?));
        }
        const e = c.b.addExecutable(.{ .name = name, .root_module = m });
        e.link_gc_sections = true;
        return e;
    }

    /// The files of a folder of this repository; the build is configured anew when it changes.
    pub fn listOwn(c: Context, folder: []const u8, endings: []const []const u8) []const []const u8 {
        const io = c.b.graph.io;
        var dir = std.Io.Dir.cwd().openDir(io, c.root(folder), .{}) catch {
            const parent = std.fs.path.dirname(folder) orelse ".";
            c.b.dependOnDirectoryContents(c.b.path(parent));
            return &.{};
        };
        dir.close(io);
        c.b.dependOnDirectoryContents(c.b.path(folder));
        return c.list(c.root(folder), endings);
    }

    /// The files of a folder with one of the endings, sorted; empty if there is no such folder.
    pub fn list(c: Context, folder: []const u8, endings: []const []const u8) []const []const u8 {
        const io = c.b.graph.io;
        var out: std.ArrayList([]const u8) = .empty;
        var dir = std.Io.Dir.cwd().openDir(io, folder, .{ .iterate = true }) catch return out.items;
        defer dir.close(io);
        var it = dir.iterate();
        while (it.next(io) catch null) |entry| {
            for (endings) |e| if (std.mem.endsWith(u8, entry.name, e))
                out.append(c.b.allocator, c.b.dupe(entry.name)) catch @panic("OOM");
        }
        std.mem.sort([]const u8, out.items, {}, lessThan);
        return out.items;
    }

    fn lessThan(_: void, a: []const u8, b: []const u8) bool {
        return std.mem.lessThan(u8, a, b);
    }
};

/// A library with the folders of its public headers.
pub const Library = struct {
    archives: []const *Compile,
    includes: []const std.Build.LazyPath,

    pub fn into(l: Library, m: *Module) void {
        for (l.includes) |i| m.addIncludePath(i);
    }
    pub fn link(l: Library, m: *Module) void {
        for (l.archives) |a| m.linkLibrary(a);
    }
};

pub fn one(c: Context, archive: *Compile, includes: []const std.Build.LazyPath) Library {
    const archives = c.b.allocator.dupe(*Compile, &.{archive}) catch @panic("OOM");
    return .{ .archives = archives, .includes = c.b.allocator.dupe(std.Build.LazyPath, includes) catch @panic("OOM") };
}

pub const c_flags: []const []const u8 = &.{ "-std=gnu11", "-Wall", "-fno-common", "-fvisibility=hidden" };

pub const ng_flags: []const []const u8 = c_flags ++ &[_][]const u8{
    "-D_GNU_SOURCE",            "-DHAVE_ARPA_INET_H=1",  "-DHAVE_NETINET_IN_H=1",
    "-DHAVE_NETINET_IP_H=1",    "-DHAVE_UNISTD_H=1",     "-DHAVE_ENDIAN_H=1",
    "-DHAVE_BYTESWAP_H=1",      "-DHAVE_ASM_TYPES_H=1",  "-DHAVE_LINUX_NETLINK_H=1",
    "-DHAVE_LINUX_RTNETLINK_H=1", "-DHAVE_DECL_BE64TOH=1", "-DHAVE_DECL_BSWAP_64=1",
    "-DHAVE_EXPLICIT_BZERO=1",  "-DHAVE_CLOCK_GETTIME=1", "-DHAVE_DECL_CLOCK_MONOTONIC=1",
};

/// Version headers of nghttp2, nghttp3 and ngtcp2: two placeholders filled in from their .in file.
pub fn versionHeader(c: Context, in: []const u8, out: []const u8, v: std.SemanticVersion) std.Build.LazyPath {
    const h = c.b.addConfigHeader(.{ .style = .{ .cmake = c.dep(in) }, .include_path = out }, .{
        .PACKAGE_VERSION = c.b.fmt("{d}.{d}.{d}", .{ v.major, v.minor, v.patch }),
    });
    h.addIdent("PACKAGE_VERSION_NUM", c.b.fmt("0x{x:0>2}{x:0>2}{x:0>2}", .{ v.major, v.minor, v.patch }));
    return h.getOutputDir();
}
