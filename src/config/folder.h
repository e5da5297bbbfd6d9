// What in a folder is a document, for whoever reads it and whoever watches it; and walking folders
// without being led in a circle by a link. Control thread.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>

#define FOLDER_DEPTH_MAX 16 // of folders below the one that was named

// Whether an entry of a folder is read: *.yaml, *.yml and *.json, in small letters as for kubectl.
// Hidden ones are not: editors' files, .git, and the `..data` of mounted ConfigMaps, whose visible
// links lead to the same files.
bool folder_is_hidden(const char *name);
bool folder_is_document(const char *name);

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
