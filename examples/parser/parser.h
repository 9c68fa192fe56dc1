/* A parser that crashes on some messages, as parsers do. */
#ifndef PARSER_H
#define PARSER_H

#include <stddef.h>
#include <stdint.h>

/* Where a message lies, and what is found in it. */
struct slot {
	uint32_t length; /* of the message, in bytes */
	uint32_t fields, sum;
	unsigned char message[4096 - 12];
};

int parse(void *addr, size_t length); /* 0, or 1 if the message ends within a field */

#endif
