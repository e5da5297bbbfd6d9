// Starts things: reads the command line and hands over to the command. Each command is in
// admin/cli_NAME.c.
#include "admin/cli.h"
#include <stdio.h>

static int dispatch(const struct cli_options *o)
{
    switch (o->command) {
    case CLI_RUN:
        return cli_run(o);
    case CLI_ANALYZE:
        return cli_analyze(o);
    case CLI_PROXY_CONFIG:
        return cli_proxy_config(o);
    case CLI_EXPLAIN:
        return cli_explain(o);
    case CLI_VERSION:
        return cli_version();
    default:
        cli_print_help(o->help_for);
        return CLI_EXIT_OK;
    }
}

int main(int argc, char **argv)
{
    char error[512];
    struct cli_options o;
    int status = CLI_EXIT_USAGE;
    if (cli_parse(argc, argv, &o, error, sizeof(error)) == OK)
        status = dispatch(&o);
    else
        fprintf(stderr, "sluice: %s\n", error);
    cli_options_fini(&o);
    return status;
}
