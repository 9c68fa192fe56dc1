#include "parser.h"

/* The factor of each type of field. The bug: an unknown type has no entry. */
struct kind {
	uint32_t factor;
};

static const struct kind number = { 1 }, dozen = { 12 };
static const struct kind *const kinds[256] = { [1] = &number, [2] = &dozen };

int parse(const void *message, size_t length, struct shm_out *out)
{
	struct answer *a = shm_out_reserve(out, sizeof(*a));
	const unsigned char *p = message;
	size_t i;

	*a = (struct answer){ 0 };
	for (i = 0; i + 1 < length; i += 2) {
		a->sum += kinds[p[i]]->factor * p[i + 1]; /* p[i]: the type */
		a->fields++;
	}
	return length % 2 == 0 ? 0 : 1;
}
