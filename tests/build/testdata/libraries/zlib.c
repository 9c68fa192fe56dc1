#include <stdlib.h>
#include <string.h>
#include <zlib.h>

/* Compresses a text of a MiB, and takes it apart again. */
int work(void *addr, size_t length)
{
	enum { SIZE = 1 << 20 };
	unsigned char *text = malloc(SIZE), *back = malloc(SIZE), *packed;
	uLongf packed_length = compressBound(SIZE), back_length = SIZE;
	int i;

	(void)addr;
	(void)length;
	packed = malloc(packed_length);
	if (text == NULL || back == NULL || packed == NULL)
		return 1;
	for (i = 0; i < SIZE; i++)
		text[i] = (unsigned char)(i % 251 + i / 4096);
	if (compress2(packed, &packed_length, text, SIZE, 9) != Z_OK)
		return 2;
	if (uncompress(back, &back_length, packed, packed_length) != Z_OK || back_length != SIZE)
		return 3;
	if (memcmp(text, back, SIZE) != 0)
		return 4;
	packed[packed_length / 2] ^= 0xff;
	back_length = SIZE;
	return uncompress(back, &back_length, packed, packed_length) == Z_OK ? 5 : 0;
}
