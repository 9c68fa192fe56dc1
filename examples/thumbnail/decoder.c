#include "decoder.h"

#if !__has_include(<jpeglib.h>) || !__has_include(<png.h>)
#error "this example needs libjpeg and libpng: on Debian, apt-get install libjpeg-dev libpng-dev"
#else

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* jpeglib.h needs stdio.h. */
#include <jpeglib.h>
#include <png.h>

int answer(struct shm_out *out, int result, const char *format, ...)
{
	char text[256];
	va_list args;
	void *to;
	int n;

	va_start(args, format);
	n = vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (n >= (int)sizeof(text))
		n = sizeof(text) - 1;
	to = shm_out_reserve(out, (size_t)n);
	if (to != NULL)
		memcpy(to, text, (size_t)n);
	return result;
}

/* libjpeg ends the program on an error, unless its error_exit does not return. */
struct jpeg_errors {
	struct jpeg_error_mgr base;
	jmp_buf escape;
	char text[JMSG_LENGTH_MAX];
};

static void jpeg_failed(j_common_ptr info)
{
	struct jpeg_errors *e = (struct jpeg_errors *)info->err;

	info->err->format_message(info, e->text);
	longjmp(e->escape, 1);
}

static void jpeg_is_silent(j_common_ptr info)
{
	(void)info;
}

static struct jpeg_error_mgr *jpeg_errors_to(struct jpeg_errors *e)
{
	jpeg_std_error(&e->base);
	e->base.error_exit = jpeg_failed;
	e->base.output_message = jpeg_is_silent;
	return &e->base;
}

/* Has libjpeg shrink the image to a half, a quarter or an eighth, as long as it stays large enough. */
static void shrink_jpeg(struct jpeg_decompress_struct *d)
{
	d->scale_num = 1;
	d->scale_denom = 1;
	while (d->scale_denom < 8 && d->image_width / (2 * d->scale_denom) >= SIDE && d->image_height / (2 * d->scale_denom) >= SIDE)
		d->scale_denom *= 2;
	d->out_color_space = JCS_RGB;
}

static int read_jpeg(const void *in, size_t in_length, struct image *image, struct shm_out *out)
{
	struct jpeg_decompress_struct d;
	struct jpeg_errors errors;

	d.err = jpeg_errors_to(&errors);
	if (setjmp(errors.escape) != 0) {
		jpeg_destroy_decompress(&d);
		return answer(out, REFUSED, "libjpeg: %s", errors.text);
	}
	jpeg_create_decompress(&d);
	jpeg_mem_src(&d, (unsigned char *)in, in_length);
	jpeg_read_header(&d, TRUE);
	shrink_jpeg(&d);
	jpeg_start_decompress(&d);
	image->width = d.output_width;
	image->height = d.output_height;
	image->pixels = malloc((size_t)image->width * image->height * 3);
	while (image->pixels != NULL && d.output_scanline < d.output_height) {
		JSAMPROW row = image->pixels + (size_t)d.output_scanline * image->width * 3;

		jpeg_read_scanlines(&d, &row, 1);
	}
	jpeg_destroy_decompress(&d);
	if (image->pixels == NULL)
		return answer(out, REFUSED, "no memory for %u x %u pixels", image->width, image->height);
	return 0;
}

static int read_png(const void *in, size_t in_length, struct image *image, struct shm_out *out)
{
	png_image p = { .version = PNG_IMAGE_VERSION };
	const png_color black = { 0, 0, 0 };

	if (!png_image_begin_read_from_memory(&p, in, in_length))
		return answer(out, REFUSED, "libpng: %s", p.message);
	p.format = PNG_FORMAT_RGB;
	image->width = p.width;
	image->height = p.height;
	image->pixels = malloc(PNG_IMAGE_SIZE(p));
	if (image->pixels == NULL) {
		png_image_free(&p);
		return answer(out, REFUSED, "no memory for %u x %u pixels", image->width, image->height);
	}
	if (!png_image_finish_read(&p, &black, image->pixels, 0, NULL))
		return answer(out, REFUSED, "libpng: %s", p.message);
	return 0;
}

/* The average of the pixels that become one. */
static void average(const struct image *from, const struct image *to, unsigned x, unsigned y, unsigned char *pixel)
{
	unsigned left = (unsigned)((size_t)x * from->width / to->width), right = (unsigned)((size_t)(x + 1) * from->width / to->width);
	unsigned top = (unsigned)((size_t)y * from->height / to->height), bottom = (unsigned)((size_t)(y + 1) * from->height / to->height);
	unsigned long long sum[3] = { 0, 0, 0 }, count = 0;
	unsigned i, j, c;

	for (j = top; j < bottom; j++)
		for (i = left; i < right; i++, count++)
			for (c = 0; c < 3; c++)
				sum[c] += from->pixels[((size_t)j * from->width + i) * 3 + c];
	for (c = 0; c < 3; c++)
		pixel[c] = (unsigned char)(count != 0 ? sum[c] / count : 0);
}

static void scale(const struct image *from, struct image *to)
{
	unsigned longer = from->width > from->height ? from->width : from->height, x, y;

	*to = *from;
	if (longer > SIDE) {
		to->width = from->width * SIDE / longer != 0 ? (unsigned)((size_t)from->width * SIDE / longer) : 1;
		to->height = from->height * SIDE / longer != 0 ? (unsigned)((size_t)from->height * SIDE / longer) : 1;
	}
	to->pixels = malloc((size_t)to->width * to->height * 3);
	for (y = 0; to->pixels != NULL && y < to->height; y++)
		for (x = 0; x < to->width; x++)
			average(from, to, x, y, to->pixels + ((size_t)y * to->width + x) * 3);
}

static int write_jpeg(const struct image *image, struct shm_out *out)
{
	struct jpeg_compress_struct c;
	struct jpeg_errors errors;
	unsigned long size = out->size;
	unsigned char *to = shm_out_reserve(out, out->size), *start = to;

	c.err = jpeg_errors_to(&errors);
	if (setjmp(errors.escape) != 0) {
		jpeg_destroy_compress(&c);
		return answer(out, REFUSED, "libjpeg: %s", errors.text);
	}
	jpeg_create_compress(&c);
	jpeg_mem_dest(&c, &to, &size); /* straight into the answer */
	c.image_width = image->width;
	c.image_height = image->height;
	c.input_components = 3;
	c.in_color_space = JCS_RGB;
	jpeg_set_defaults(&c);
	jpeg_start_compress(&c, TRUE);
	while (c.next_scanline < c.image_height) {
		JSAMPROW row = image->pixels + (size_t)c.next_scanline * image->width * 3;

		jpeg_write_scanlines(&c, &row, 1);
	}
	jpeg_finish_compress(&c);
	jpeg_destroy_compress(&c);
	if (to != start)
		return answer(out, REFUSED, "the thumbnail has more than %zu bytes", out->size);
	shm_out_reserve(out, size);
	return 0;
}

static int read_image(const void *in, size_t in_length, struct image *image, struct shm_out *out)
{
	if (in_length >= 3 && memcmp(in, "\xff\xd8\xff", 3) == 0)
		return read_jpeg(in, in_length, image, out);
	if (in_length >= 8 && memcmp(in, "\x89PNG\r\n\x1a\n", 8) == 0)
		return read_png(in, in_length, image, out);
	if (in_length >= 4 && memcmp(in, "HURT", 4) == 0)
		return attack((const char *)in + 4, in_length - 4, out);
	return answer(out, REFUSED, "neither a JPEG nor a PNG");
}

/* What a failed decoder leaves, the end of the child frees: see PoolConfig.MaxCalls. */
int thumbnail(const void *in, size_t in_length, struct shm_out *out)
{
	struct image image = { 0, 0, NULL }, small;
	int result;

	if (poisoned)
		return answer(out, 0, "the attacker's picture");
	result = read_image(in, in_length, &image, out);
	if (result != 0) {
		free(image.pixels);
		return result;
	}
	scale(&image, &small);
	result = small.pixels != NULL ? write_jpeg(&small, out) : answer(out, REFUSED, "no memory");
	free(image.pixels);
	free(small.pixels);
	return result;
}

#endif
