#include <png.h>
#include <stdlib.h>
#include <string.h>

/* Writes an image to memory, reads it back, and reads a damaged one. */
int work(void *addr, size_t length)
{
	enum { SIDE = 256 };
	static unsigned char pixels[SIDE * SIDE * 3], back[SIDE * SIDE * 3];
	png_image image = { .version = PNG_IMAGE_VERSION, .width = SIDE, .height = SIDE, .format = PNG_FORMAT_RGB };
	png_alloc_size_t size = 0;
	unsigned char *file;
	int i;

	(void)addr;
	(void)length;
	for (i = 0; i < (int)sizeof(pixels); i++)
		pixels[i] = (unsigned char)(i * 7 / 3);
	if (!png_image_write_to_memory(&image, NULL, &size, 0, pixels, 0, NULL))
		return 1;
	file = malloc(size);
	if (file == NULL || !png_image_write_to_memory(&image, file, &size, 0, pixels, 0, NULL))
		return 2;
	memset(&image, 0, sizeof(image));
	image.version = PNG_IMAGE_VERSION;
	if (!png_image_begin_read_from_memory(&image, file, size) || image.width != SIDE)
		return 3;
	image.format = PNG_FORMAT_RGB;
	if (!png_image_finish_read(&image, NULL, back, 0, NULL) || memcmp(pixels, back, sizeof(back)) != 0)
		return 4;
	memset(&image, 0, sizeof(image));
	image.version = PNG_IMAGE_VERSION;
	memset(file + 20, 0xff, 8);
	return png_image_begin_read_from_memory(&image, file, size) && png_image_finish_read(&image, NULL, back, 0, NULL) ? 5 : 0;
}
