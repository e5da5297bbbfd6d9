//! All third-party libraries, built once for a context.
const ctx = @import("context.zig");

pub const Libs = struct {
    liburing: ctx.Library,
    libyaml: ctx.Library,
    boringssl: ctx.Library,
    re2: ctx.Library,
    ngtcp2: ctx.Library,
    nghttp2: ctx.Library,
    nghttp3: ctx.Library,

    /// Optimised in every mode and not instrumented: one build serves releases, tests and
    /// sanitizers, which are after our own mistakes. Fuzzing finds its way by what it sees covered,
    /// hence the two that read what a fuzz target is given are built for it once more.
    pub fn build(own: ctx.Context) Libs {
        var c = own;
        c.sanitize = .none;
        c.optimize = .fast;
        const read = c;
        c.fuzz = false;
        // The thread sanitizer has to see the counts by which threads share a context, or it takes the last one's free
        // for a race with the others' use.
        var counted = c;
        if (own.sanitize == .thread) counted.sanitize = .thread;
        const boringssl = @import("boringssl.zig").build(counted);
        return .{
            .liburing = @import("liburing.zig").build(c),
            .libyaml = @import("libyaml.zig").build(read),
            .boringssl = boringssl,
            .re2 = @import("re2.zig").build(read),
            .ngtcp2 = @import("ngtcp2.zig").build(c, boringssl),
            .nghttp2 = @import("nghttp2.zig").build(c),
            .nghttp3 = @import("nghttp3.zig").build(c),
        };
    }

    /// In link order: what uses before what is used.
    pub fn all(l: Libs) [7]ctx.Library {
        return .{ l.ngtcp2, l.nghttp3, l.nghttp2, l.boringssl, l.re2, l.liburing, l.libyaml };
    }

    pub fn into(l: Libs, m: *ctx.Module) void {
        for (l.all()) |x| x.into(m);
    }

    pub fn link(l: Libs, m: *ctx.Module) void {
        for (l.all()) |x| x.link(m);
    }
};
