/* A parser that crashes on some messages. */
#ifndef PARSER_H
#define PARSER_H

#include <stddef.h>
#include <stdint.h>

/* A message and the results of parsing it. */
struct slot {
	uint32_t length; /* of the message, in bytes */
	uint32_t fields, sum;
	unsigned char message[4096 - 12];
};

/* Parses the message in the slot at addr. Returns 0, or 1 if the message ends within a field. */
int parse(void *addr, size_t length);

#endif
