// The outside world of the whole gateway in the simulator: what its clients ask (jobs), what its
// upstreams answer, and what each side must never see. A job's every byte follows from its number,
// so that an answer that belongs to another request is recognised wherever it appears.
#pragma once
#include "proxy/proxy.h"
#include "sim.h"

#define WORLD_JOBS 96
#define WORLD_CLIENTS 8
#define WORLD_UPSTREAMS 64
#define WORLD_VERSIONS 5
#define WORLD_CALM_VERSIONS 3   // the others have listeners that come and go
#define WORLD_VERSION_OF_8081 3 // the only one that has it
#define WORLD_GENERATIONS 64

// --- Text of HTTP/1.1, as the peers of the gateway read and write it --------------------------

struct bytes {
    char *p;
    size_t len, cap;
};
void bytes_add(struct bytes *b, const void *p, size_t n);
void bytes_printf(struct bytes *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void bytes_drop(struct bytes *b, size_t n); // from the front
void bytes_free(struct bytes *b);

enum progress { PROGRESS_DONE, PROGRESS_MORE, PROGRESS_BAD };

struct peer_head { // a head that has been read
    char line[200];
    uint32_t status; // of a response
    bool chunked, has_length, upgrade, close;
    uint64_t length;
    int64_t id;      // of x-id, -1 = none
    int64_t version; // of x-version
    char location[120];
};

struct reader {      // one direction of one connection
    struct bytes in; // received and not yet consumed
    struct peer_head m;
    enum { PART_SIZED, PART_CHUNK_SIZE, PART_CHUNK_END, PART_TRAILERS, PART_TO_END } part;
    uint64_t left; // bytes of the body or of the chunk
    uint64_t got;  // bytes of the body so far, all of them right
    uint32_t pattern;
};
enum progress reader_head(struct reader *r);
void reader_body_begin(struct reader *r, uint32_t pattern, bool no_body, bool to_end);
enum progress reader_body(struct reader *r); // BAD: not its framing, or not the pattern's bytes
uint8_t pattern_byte(uint32_t pattern, uint64_t i);
void pattern_add(struct bytes *b, uint32_t pattern, uint32_t len);
// The body `len` bytes long, in chunks of random sizes when `chunked`.
void body_add(struct bytes *b, uint32_t pattern, uint32_t len, bool chunked, bool trailers);

// --- Jobs ------------------------------------------------------------------------------------

enum job_kind {
    JOB_GET,
    JOB_HEAD,
    JOB_POST,
    JOB_REDIRECT,
    JOB_DIRECT,
    JOB_NO_ROUTE,
    JOB_TIMED,  // its upstream never answers, its route has a timeout
    JOB_TUNNEL, // these two end their connection
    JOB_MALFORMED,
};

enum answer { ANSWER_RIGHT, ANSWER_SILENCE, ANSWER_RESET, ANSWER_END, ANSWER_RUBBISH, ANSWER_503 };
enum reply_framing { REPLY_LENGTH, REPLY_CHUNKED, REPLY_TO_END };

struct job {
    uint32_t id;
    enum job_kind kind;
    uint32_t body_len, reply_len;
    bool chunked, trailers, http10, big_head;
    bool early;       // answered before the body was read
    bool interim;     // a 103 comes first
    bool reply_close; // the upstream ends its connection after it
    enum reply_framing framing;
    enum answer answer;
    uint32_t cut;        // per mille of the reply that a RESET or END lets pass
    uint32_t seen;       // times its head has reached an upstream
    uint64_t generation; // adopted by the worker when its first byte was sent
};

struct world {
    struct runtime rt;
    struct proxy_worker *pw;
    struct load_input inputs[WORLD_VERSIONS];
    uint8_t version_of[WORLD_GENERATIONS]; // by generation
    bool violent, closing;
    struct job jobs[WORLD_JOBS];
    uint32_t job_count;
    const char *wrong; // NULL = fine
    uint32_t wrong_job;
};
extern struct world world;

void world_wrong(const struct job *j, const char *what); // the first one is kept
static inline bool world_chance_violent(uint32_t per_mille)
{
    return world.violent && sim_chance(per_mille);
}

// --- Peers -----------------------------------------------------------------------------------

void clients_begin(void);
void clients_step(void);
bool clients_done(void);
void clients_end(void);
void upstreams_begin(void);
void upstreams_step(void);
void upstreams_end(void);
