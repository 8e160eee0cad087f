#include "core/repo/state.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A token that can be read names one object at most, and is written and read as the same. */
int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	g_autofree char *text = g_malloc0(size + 1);
	g_autofree char *first = NULL;
	g_autofree char *second = NULL;
	g_autofree char *key = NULL;
	g_autoptr(FirnForkToken) token = NULL;
	g_autoptr(FirnForkToken) again = NULL;
	g_autoptr(GError) error = NULL;

	if (size > 0)
		memcpy(text, data, size);
	token = firn_fork_token_from_json(text, "fuzz", &error);
	if ((token == NULL) != (error != NULL))
		abort();
	if (token == NULL)
		return 0;
	key = g_strdup_printf("firn/sessions/%s/parent", token->fork);
	if (token->parent_key != NULL && strcmp(token->parent_key, key) != 0)
		abort();
	if (strchr(token->fork, '/') != NULL || strchr(token->fork, '.') != NULL)
		abort();
	first = firn_fork_token_to_json(token);
	again = firn_fork_token_from_json(first, "again", &error);
	if (again == NULL)
		abort();
	second = firn_fork_token_to_json(again);
	if (strcmp(first, second) != 0)
		abort();
	return 0;
}
