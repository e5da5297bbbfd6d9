// One operator of an access log format: parsed from its text, then read from an exchange or a
// relayed connection.
#pragma once
#include "proto/exchange.h"

struct proxy_flow_end;

struct log_value {
    uint8_t operator;            // index into the table of operators
    struct slice name, fallback; // X and Y of REQ(X?Y), lower case; START_TIME's format in name
    uint32_t max_len;            // :Z, 0 = none
};

struct log_result {
    char *scratch; // LOG_VALUE_MAX bytes for what has to be composed
    uint64_t start_unix_ns;
    bool number;
    uint64_t u64;
    struct slice text; // ptr NULL and !number: there is no value ("-")
};

// `op` is what stands between two %; it is changed in place and must outlive the value.
bool log_value_parse(char *op, size_t len, struct log_value *out, char *error, size_t cap);
void log_value_read(const struct log_value *v, const struct exchange *x, struct log_result *r);
void log_value_read_flow(const struct log_value *v, const struct proxy_flow_end *f,
                         struct log_result *r);
