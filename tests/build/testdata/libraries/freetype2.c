#include <ft2build.h>
#include FT_FREETYPE_H

/* Draws all printable letters of the font at addr. */
int work(void *addr, size_t length)
{
	FT_Library library;
	FT_Face face;
	FT_ULong c;
	unsigned dark = 0;

	if (FT_Init_FreeType(&library) != 0)
		return 1;
	if (FT_New_Memory_Face(library, addr, (FT_Long)length, 0, &face) != 0)
		return 2;
	if (FT_Set_Pixel_Sizes(face, 0, 48) != 0)
		return 3;
	for (c = '!'; c <= '~'; c++) {
		if (FT_Load_Char(face, c, FT_LOAD_RENDER) != 0)
			return 4;
		dark += face->glyph->bitmap.rows * face->glyph->bitmap.width;
	}
	FT_Done_Face(face);
	FT_Done_FreeType(library);
	return dark > 10000 ? 0 : 5;
}
