#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <jpeglib.h>

enum { SIDE = 256 };

struct escape {
	struct jpeg_error_mgr base;
	jmp_buf to;
};

static void escape(j_common_ptr info)
{
	struct escape *e = (struct escape *)info->err;

	longjmp(e->to, 1);
}

static void encode(unsigned char **file, unsigned long *size)
{
	struct jpeg_compress_struct c;
	struct jpeg_error_mgr error;
	static unsigned char row[SIDE * 3];
	JSAMPROW rows[] = { row };

	c.err = jpeg_std_error(&error);
	jpeg_create_compress(&c);
	jpeg_mem_dest(&c, file, size);
	c.image_width = c.image_height = SIDE;
	c.input_components = 3;
	c.in_color_space = JCS_RGB;
	jpeg_set_defaults(&c);
	jpeg_start_compress(&c, TRUE);
	while (c.next_scanline < c.image_height) {
		memset(row, (int)c.next_scanline, sizeof(row));
		jpeg_write_scanlines(&c, rows, 1);
	}
	jpeg_finish_compress(&c);
	jpeg_destroy_compress(&c);
}

/* Returns the number of rows, or -1. Warnings of the library go to stderr. */
static int decode(const unsigned char *file, unsigned long size)
{
	struct jpeg_decompress_struct d;
	struct escape error;
	static unsigned char row[SIDE * 3];
	JSAMPROW rows[] = { row };
	volatile int count = 0;

	d.err = jpeg_std_error(&error.base);
	error.base.error_exit = escape;
	jpeg_create_decompress(&d);
	if (setjmp(error.to) != 0) {
		jpeg_destroy_decompress(&d);
		return -1;
	}
	jpeg_mem_src(&d, (unsigned char *)file, size);
	jpeg_read_header(&d, TRUE);
	jpeg_start_decompress(&d);
	while (d.output_scanline < d.output_height)
		count += (int)jpeg_read_scanlines(&d, rows, 1);
	jpeg_finish_decompress(&d);
	jpeg_destroy_decompress(&d);
	return count;
}

/* Encodes an image, decodes it, and decodes what is no image. */
int work(void *addr, size_t length)
{
	unsigned char *file = NULL;
	unsigned long size = 0;

	(void)addr;
	(void)length;
	encode(&file, &size);
	if (decode(file, size) != SIDE)
		return 1;
	memset(file, 0, 16);
	return decode(file, size) == -1 ? 0 : 2;
}
