/* The other end of a port in C, and nothing else: reads frames of {packet, 4} and gives each back. What a port itself
   costs. With the argument `sink` a frame of four bytes goes back, however long the one that came was. */

#include <arpa/inet.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

static char *room;
static size_t room_size, there; /* what has been read and not answered yet lies at the room's beginning */

static void all_of(const char *bytes, size_t size) {
    while (size > 0) {
        ssize_t written = write(1, bytes, size);
        if (written <= 0) exit(0);
        bytes += written;
        size -= (size_t)written;
    }
}

/* One read takes whatever there is: a short frame whole, and what is behind it. */
static void at_least(size_t size) {
    if (size > room_size) {
        room_size = size;
        if (!(room = realloc(room, room_size))) exit(1);
    }
    while (there < size) {
        ssize_t got = read(0, room + there, room_size - there);
        if (got <= 0) exit(0);
        there += (size_t)got;
    }
}

int main(int count, char **arguments) {
    (void)arguments;
    room_size = 1 << 16;
    if (!(room = malloc(room_size))) return 1;
    for (;;) {
        at_least(4);
        uint32_t length;
        __builtin_memcpy(&length, room, 4);
        size_t frame = 4 + (size_t)ntohl(length);
        at_least(frame);
        if (count > 1)
            all_of("\0\0\0\4done", 8);
        else
            all_of(room, frame);
        there -= frame;
        __builtin_memmove(room, room + frame, there);
    }
}
