#include "core/format/config.h"
#include "core/format/v1.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
need(bool holds)
{
	if (!holds)
		abort();
}

static void
check_values(const FirnConfig *config)
{
	char name[] = "time";
	char *names[] = { name, NULL };
	uint32_t sizes[2];

	need(firn_config_compression_level(config) >= 0 &&
	     firn_config_compression_level(config) <= 22);
	need(firn_config_inline_threshold(config) <= UINT16_MAX);
	need(firn_config_ops_log_length(config) >= 1);
	firn_config_split_sizes(config, "/group/array", 2, names, sizes);
	need(sizes[0] > 0 && sizes[1] > 0);
}

/* A rule put first decides, whatever came before. */
static void
check_split(JsonNode *json)
{
	JsonNode *split = firn_config_with_split(json, "/group/array", 1, 7);
	g_autoptr(FirnConfig) config = firn_config_parse(split, NULL);
	uint32_t sizes[2];

	json_node_unref(split);
	need(config != NULL);
	firn_config_split_sizes(config, "/group/array", 2, NULL, sizes);
	need(sizes[1] == 7);
}

/* A location in a container stays below the container's prefix. */
static void
check_locations(const FirnConfig *config)
{
	static const char *const climbing[] = { "vcc://a/../x", "vcc://a/%2e%2e/x", "vcc:///x",
						"vcc://a/x/..", "vcc://a" };

	for (size_t i = 0; i < G_N_ELEMENTS(climbing); i++) {
		g_autofree char *url = firn_config_resolve_location(config, climbing[i], NULL);

		need(url == NULL);
	}
}

static void
check_ref(FirnSpan text)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(GBytes) file = NULL;
	FirnId12 id, again;

	if (!firn_v1_ref_parse(text, &id, &error)) {
		need(error != NULL);
		return;
	}
	file = firn_v1_ref_format(&id);
	need(firn_v1_ref_parse((FirnSpan){ g_bytes_get_data(file, NULL), g_bytes_get_size(file) },
			       &again, NULL) &&
	     firn_id12_equal(&id, &again));
}

static void
check_ref_key(FirnSpan text)
{
	g_autofree char *key = g_strndup((const char *)text.data, text.len);
	g_autofree char *name = NULL;
	g_autofree char *again = NULL;
	FirnV1RefKind kind;

	if (!firn_v1_ref_parse_key(key, &kind, &name))
		return;
	again = firn_v1_ref_key(kind, name);
	need(strcmp(key, again) == 0 && strchr(name, '/') == NULL);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	FirnSpan text = { data, size };
	g_autoptr(GError) error = NULL;
	g_autoptr(JsonNode) json = firn_config_from_yaml(text, &error);
	g_autoptr(FirnConfig) config = json != NULL ? firn_config_parse(json, &error) : NULL;

	need((config == NULL) == (error != NULL));
	if (config != NULL) {
		check_values(config);
		check_split(json);
		check_locations(config);
	}
	check_ref(text);
	check_ref_key(text);
	return 0;
}
