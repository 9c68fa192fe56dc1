/* The C of the thumbnailer: two real libraries, and a decoder that is an attacker's. */
#ifndef DECODER_H
#define DECODER_H

#include "shm_child.h"

enum {
	REFUSED = 1,   /* the file is not an image: the answer says why */
	SUCCEEDED = 2, /* an attack has succeeded: the answer says what it got */
};

/* Makes a JPEG of at most SIDE pixels a side of a JPEG or a PNG. A shm_do. */
int thumbnail(const void *in, size_t in_length, struct shm_out *out);

enum { SIDE = 128 };

/* An image: width * height pixels of 3 bytes, from malloc. */
struct image {
	unsigned width, height;
	unsigned char *pixels;
};

/*
 * The "decoder" of a made-up format: "HURT" and the name of an attack. It stands
 * for the code that runs in a decoder which a crafted file has taken over.
 */
int attack(const char *name, size_t length, struct shm_out *out);

/* Makes a text the answer, and returns result. */
int answer(struct shm_out *out, int result, const char *format, ...) __attribute__((format(printf, 3, 4)));

extern int poisoned; /* an attacker's code makes the thumbnails of later files */

#endif
