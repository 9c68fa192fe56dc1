#include <expat.h>
#include <stdio.h>
#include <string.h>

static void count(void *n, const XML_Char *name, const XML_Char **attributes)
{
	(void)name;
	(void)attributes;
	++*(int *)n;
}

/* Returns the number of elements, or -1. */
static int elements(const char *text)
{
	XML_Parser parser = XML_ParserCreate(NULL);
	int n = 0;

	XML_SetUserData(parser, &n);
	XML_SetStartElementHandler(parser, count);
	if (XML_Parse(parser, text, (int)strlen(text), 1) != XML_STATUS_OK)
		n = -1;
	XML_ParserFree(parser);
	return n;
}

/* Parses a text, and what is none. */
int work(void *addr, size_t length)
{
	static char text[1 << 16] = "<all>";
	int i;

	(void)addr;
	(void)length;
	for (i = 0; i < 1000; i++)
		snprintf(text + strlen(text), 64, "<item number=\"%d\">&amp;</item>", i);
	strcat(text, "</all>");
	if (elements(text) != 1001)
		return 1;
	return elements("<all><item></all>") == -1 ? 0 : 2;
}
