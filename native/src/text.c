/* Text that grows. */
#include "native.h"
#include <string.h>

int text_reserve(struct text *text, size_t more)
{
    if (text->room - text->size >= more)
        return 0;
    size_t room = 2 * text->room + more + 256;
    uint8_t *data = PyMem_Realloc(text->data, room);
    if (!data) {
        PyErr_NoMemory();
        return -1;
    }
    text->data = data;
    text->room = room;
    return 0;
}

int text_put(struct text *text, const void *data, size_t size)
{
    if (!size)
        return 0;
    if (text_reserve(text, size) < 0)
        return -1;
    memcpy(text->data + text->size, data, size);
    text->size += size;
    return 0;
}

char *digits_before(char *end, uint64_t value)
{
    do
        *--end = (char)('0' + value % 10);
    while (value /= 10);
    return end;
}
