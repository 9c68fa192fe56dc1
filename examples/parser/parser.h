/* A parser that crashes on some messages. */
#ifndef PARSER_H
#define PARSER_H

#include "../../csrc/shm_child.h" /* in a module of its own: "shm_child.h", see cmd/childheader */

/* The answer. */
struct answer {
	uint32_t fields, sum;
};

/* Parses a message, and answers with a struct answer. Returns 0, or 1 if the message ends within a field. */
int parse(const void *message, size_t length, struct shm_out *out);

#endif
