// The command line: what was typed, as plain data, and one function for each command. Start-up
// only, main thread.
#pragma once
#include "admin/access_log.h"
#include "config/load.h"
#include "core/addr.h"
#include "core/arena.h"
#include "core/log.h"
#include "core/rcu.h"
#include "core/selfcheck.h"
#include "proto/l4_decode.h"
#include "route/route.h"

enum cli_command {
    CLI_RUN,
    CLI_ANALYZE,
    CLI_PROXY_CONFIG,
    CLI_EXPLAIN,
    CLI_VERSION,
    CLI_HELP,
    CLI_COMMANDS
};

// Exit status of the process.
#define CLI_EXIT_OK 0
#define CLI_EXIT_FAILED 1 // the documents, or the machine
#define CLI_EXIT_USAGE 2  // what was typed

struct cli_options {
    struct arena arena; // of everything below
    enum cli_command command;
    enum cli_command help_for; // CLI_HELP: of what; CLI_COMMANDS = all
    // -n, -f: documents
    struct load_input *inputs;
    uint32_t input_count;
    const char *ns; // the last -n
    struct label_map labels;
    bool strict, json;
    // run
    uint32_t workers;                   // 0 = one per core
    struct addr admin, status, metrics; // len 0 = off
    bool no_http3;
    enum ktls_mode ktls;
    bool any_alpn;                     // --auto-passthrough-alpn any
    const char *identity;              // NULL: tls_store_options' default
    bool look_at[L4_PROTOCOLS];        // --l4-stats
    struct addr_prefix *proxy_sources; // --proxy-protocol
    uint32_t proxy_source_count;
    uint64_t drain_time_ns;
    uint64_t udp_idle_timeout_ns; // 0, as below
    uint32_t udp_sessions;
    uint64_t head_timeout_ns, idle_timeout_ns, stall_timeout_ns; // 0: runtime_config's default
    enum log_level log_level;
    const char *access_log; // NULL = off
    enum access_log_format access_log_format;
    const char *access_log_custom;
    // proxy-config
    const char *listing; // one of listing_names
    // explain
    const char *host, *path, *method;
    const char *sni; // NULL: the host
    uint32_t port;   // 0 = any
    struct route_header *headers;
    uint32_t header_count;
};

// ERR_INVALID with a sentence for standard error. cli_options_fini is due in both cases.
enum err cli_parse(int argc, char **argv, struct cli_options *out, char *error,
                   size_t cap) must_use;
void cli_options_fini(struct cli_options *o);
// "1m30s", "500ms", "30" (seconds), up to a day.
bool cli_parse_duration(const char *text, uint64_t *out_ns);
void cli_print_help(enum cli_command command); // to standard output
extern const char *const cli_command_names[CLI_COMMANDS + 1];

int cli_run(const struct cli_options *o);
int cli_analyze(const struct cli_options *o);
int cli_proxy_config(const struct cli_options *o);
int cli_explain(const struct cli_options *o);
int cli_version(void);
