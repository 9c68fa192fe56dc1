#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <webp/decode.h>
#include <webp/encode.h>

/* Encodes an image without loss, decodes it, and decodes a damaged one. */
int work(void *addr, size_t length)
{
	enum { SIDE = 256 };
	static uint8_t pixels[SIDE * SIDE * 3];
	uint8_t *file, *back;
	size_t i, size;
	int width, height;

	(void)addr;
	(void)length;
	for (i = 0; i < sizeof(pixels); i++)
		pixels[i] = (uint8_t)(i * 5 / 7);
	size = WebPEncodeLosslessRGB(pixels, SIDE, SIDE, SIDE * 3, &file);
	if (size == 0)
		return 1;
	back = WebPDecodeRGB(file, size, &width, &height);
	if (back == NULL || width != SIDE || height != SIDE || memcmp(pixels, back, sizeof(pixels)) != 0)
		return 2;
	WebPFree(back);
	return WebPDecodeRGB(file, size / 3, &width, &height) == NULL ? 0 : 3;
}
