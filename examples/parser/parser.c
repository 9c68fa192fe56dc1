#include "parser.h"

/* The factor of each type of field. The bug: an unknown type has no entry. */
struct kind {
	uint32_t factor;
};

static const struct kind number = { 1 }, dozen = { 12 };
static const struct kind *const kinds[256] = { [1] = &number, [2] = &dozen };

int parse(void *addr, size_t length)
{
	struct slot *s = addr;
	const unsigned char *p = s->message;
	uint32_t i;

	(void)length;
	s->fields = 0;
	s->sum = 0;
	for (i = 0; i + 1 < s->length; i += 2) {
		s->sum += kinds[p[i]]->factor * p[i + 1]; /* p[i]: the type */
		s->fields++;
	}
	return s->length % 2 == 0 ? 0 : 1;
}
