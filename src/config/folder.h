// Walking folders of documents without being led in a circle by a link. Control thread.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>

struct folder_way { // a folder and the ones it was reached through; on the walker's stack
    const struct folder_way *up; // NULL: where the walk began
    dev_t dev;
    ino_t ino;
};

// False where the folder is one of those it was reached through.
static inline bool folder_way_enter(struct folder_way *way, const struct folder_way *up,
                                    const struct stat *st)
{
    *way = (struct folder_way){up, st->st_dev, st->st_ino};
    for (; up; up = up->up)
        if (up->dev == way->dev && up->ino == way->ino)
            return false;
    return true;
}
