// Names in folders of documents. Owns nothing. Control thread.
#include "config/folder.h"
#include "core/slice.h"

bool folder_is_hidden(const char *name)
{
    return name[0] == '.';
}

bool folder_is_document(const char *name)
{
    struct slice s = slice_of(name);
    return !folder_is_hidden(name) &&
           (slice_has_suffix(s, SLICE(".yaml")) || slice_has_suffix(s, SLICE(".yml")) ||
            slice_has_suffix(s, SLICE(".json")));
}
