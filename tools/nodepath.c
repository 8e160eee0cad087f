#include "tools/nodepath.h"

char *
firn_node_path(const char *above, const char *below)
{
	g_autofree char *joined = g_strconcat(above ? above : "", "/", below ? below : "", NULL);
	g_auto(GStrv) parts = g_strsplit(joined, "/", -1);
	GString *path = g_string_new(NULL);

	for (char **p = parts; *p; p++)
		if (**p)
			g_string_append_printf(path, "/%s", *p);
	if (!path->len)
		g_string_append_c(path, '/');
	return g_string_free(path, FALSE);
}
