// RE2 behind regex.h: the only C++ here. Owns one RE2 object per expression for validation and
// the control thread, and one for each worker that has matched with it, created on its first use:
// an RE2 caches its DFA behind a lock, and a lock that only one thread takes is never contended.
// A worker touches only its own slot, so the slots need no atomics.
#include <re2/re2.h>

#include <cstdint>
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

// Bytes of the character at p, 0 where there is none: RFC 3629 section 4.
static size_t character_at(const unsigned char *p, size_t left)
{
    size_t n = p[0] < 0x80 ? 1 : p[0] < 0xc2 ? 0 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
    if (n < 2)
        return n;
    if (p[0] > 0xf4 || left < n)
        return 0;
    unsigned low = p[0] == 0xe0 ? 0xa0 : p[0] == 0xf0 ? 0x90 : 0x80;
    unsigned high = p[0] == 0xed ? 0x9f : p[0] == 0xf4 ? 0x8f : 0xbf;
    if (p[1] < low || p[1] > high)
        return 0;
    for (size_t i = 2; i < n; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    return n;
}

static bool is_ascii(struct slice s)
{
    uint64_t word, high = 0;
    size_t i = 0;
    for (; s.len - i >= sizeof(word); i += sizeof(word)) {
        memcpy(&word, s.ptr + i, sizeof(word));
        high |= word;
    }
    for (; i < s.len; i++)
        high |= static_cast<unsigned char>(s.ptr[i]);
    return (high & 0x8080808080808080u) == 0;
}

// The text with U+FFFD for each byte that is no UTF-8; false where there is none such.
static bool mend(struct slice text, std::string &out)
{
    if (is_ascii(text))
        return false;
    const auto *p = reinterpret_cast<const unsigned char *>(text.ptr);
    bool mended = false;
    size_t whole = 0; // up to here it has been looked at, and copied if there is reason to
    for (size_t i = 0; i < text.len;) {
        size_t n = character_at(p + i, text.len - i);
        i += n ? n : 1;
        if (n)
            continue;
        out.append(text.ptr + whole, i - 1 - whole);
        out.append("\xef\xbf\xbd");
        whole = i;
        mended = true;
    }
    if (mended)
        out.append(text.ptr + whole, text.len - whole);
    return mended;
}

// Only a text that does not match as it is, and is no UTF-8, is looked at twice.
extern "C" bool regex_full_match(struct regex *re, uint32_t worker, struct slice text)
{
    if (RE2::FullMatch(piece(text), *instance(re, worker)))
        return true;
    std::string mended;
    return mend(text, mended) && RE2::FullMatch(mended, *instance(re, worker));
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
