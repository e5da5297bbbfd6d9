// RE2 behind regex.h: the only C++ here. Owns one RE2 object per expression for validation and
// the control thread, and one for each worker that has matched with it, created on its first use:
// an RE2 caches its DFA behind a lock, and a lock that only one thread takes is never contended.
// A worker touches only its own slot, so the slots need no atomics.
#include <re2/re2.h>

#include <cstdio>
#include <cstring>
#include <string>

extern "C" {
#include "route/regex.h"
}

struct regex {
    std::string pattern;
    RE2 *instances[REGEX_MAX_WORKERS];
};

static RE2 *compile(const std::string &pattern)
{
    return new RE2(pattern, RE2::Quiet); // as Envoy: UTF-8, errors not logged
}

static RE2 *instance(struct regex *re, uint32_t worker)
{
    if (worker >= REGEX_MAX_WORKERS)
        worker = REGEX_CONTROL;
    RE2 *&slot = re->instances[worker];
    if (!slot)
        slot = compile(re->pattern);
    return slot;
}

static void say(char *error, size_t cap, const std::string &text)
{
    if (error && cap)
        snprintf(error, cap, "%s", text.c_str());
}

static re2::StringPiece piece(struct slice s)
{
    return re2::StringPiece(s.len ? s.ptr : "", s.len);
}

extern "C" struct regex *regex_create(struct slice pattern, char *error, size_t cap)
{
    struct regex *re = new regex();
    memset(re->instances, 0, sizeof(re->instances));
    re->pattern.assign(pattern.len ? pattern.ptr : "", pattern.len);
    RE2 *first = instance(re, REGEX_CONTROL);
    if (first->ok())
        return re;
    say(error, cap, first->error());
    regex_destroy(re);
    return nullptr;
}

extern "C" void regex_destroy(struct regex *re)
{
    if (!re)
        return;
    for (RE2 *i : re->instances)
        delete i;
    delete re;
}

extern "C" bool regex_is_valid(struct slice pattern, char *why, size_t why_cap)
{
    RE2 *re = compile(std::string(pattern.len ? pattern.ptr : "", pattern.len));
    bool ok = re->ok();
    if (!ok)
        say(why, why_cap, re->error());
    delete re;
    return ok;
}

extern "C" bool regex_full_match(struct regex *re, uint32_t worker, struct slice text)
{
    return RE2::FullMatch(piece(text), *instance(re, worker));
}

extern "C" enum err regex_replace_all(struct regex *re, uint32_t worker, struct slice text,
                                      struct slice rewrite, char *out, size_t cap, size_t *len)
{
    std::string s(text.len ? text.ptr : "", text.len);
    RE2::GlobalReplace(&s, *instance(re, worker), piece(rewrite));
    if (s.size() > cap)
        return ERR_LIMIT;
    memcpy(out, s.data(), s.size()); // NOLINT(bugprone-not-null-terminated-result): has a length
    *len = s.size();
    return OK;
}

extern "C" bool regex_rewrite_valid(struct regex *re, struct slice rewrite, char *error, size_t cap)
{
    std::string why;
    if (instance(re, REGEX_CONTROL)->CheckRewriteString(piece(rewrite), &why))
        return true;
    say(error, cap, why);
    return false;
}
