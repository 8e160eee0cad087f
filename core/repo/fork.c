#include "core/base/clock.h"
#include "core/base/error.h"
#include "core/base/json_check.h"
#include "core/repo/state.h"

#include <json-glib/json-glib.h>
#include <string.h>

#define TOKEN_VERSION 1
#define TOKEN_DEPTH   8u
#define TOKEN_MAX     (16u << 20) /* bytes: some hundred thousand ancestors */
#define SUFFIX        ".journal"

void
firn_fork_token_free(FirnForkToken *token)
{
	if (token == NULL)
		return;
	g_free(token->fork);
	firn_journal_header_free(token->start);
	g_free(token->parent_key);
	g_free(token);
}

char *
firn_fork_parent_key(const char *fork)
{
	return g_strdup_printf("firn/sessions/%s/parent", fork);
}

char *
firn_fork_journal_key(const char *fork, const char *session)
{
	return g_strdup_printf("firn/sessions/%s/%s" SUFFIX, fork, session);
}

/* ---- making one ---- */

/* Whether anything in `changes` was done by its own session. */
static bool
has_own(const FirnChanges *changes)
{
	GHashTableIter iter;
	FirnChunkChange *change;
	FirnChunkIter chunks;
	gpointer value;

	g_hash_table_iter_init(&iter, changes->pending);
	while (g_hash_table_iter_next(&iter, NULL, &value))
		if (((const FirnPending *)value)->seq != 0)
			return true;
	if (g_hash_table_size(changes->dropped) > 0)
		return true;
	g_hash_table_iter_init(&iter, changes->by_id);
	while (g_hash_table_iter_next(&iter, NULL, &value)) {
		const FirnNodeChange *node = value;

		if (node->seq != 0)
			return true;
		firn_chunk_iter_seek(&chunks, node->chunks, NULL, 0);
		while (firn_chunk_iter_next(&chunks, NULL, &change))
			if (change->seq != 0)
				return true;
	}
	return false;
}

/* The sections a fork starts from; `*out_image` NULL if nothing is uncommitted. */
static bool
parent_image(const FirnJournalHeader *header, uint64_t seq, const FirnChanges *changes,
	     GPtrArray *parents, GBytes **out_image, GError **error)
{
	FirnJournalImage image = { NULL, 0, 0 };
	bool any = has_own(changes), whole = true;

	for (guint i = 0; whole && parents != NULL && i < parents->len; i++) {
		const FirnSection *parent = parents->pdata[i];

		any = any || has_own(parent->changes);
		whole = firn_journal_image_add(&image, parent->header, parent->changes,
					       parent->last_seq, error);
	}
	if (whole && any)
		whole = firn_journal_image_add(&image, header, changes, seq, error);
	if (whole && any)
		*out_image = firn_journal_image_end(&image);
	firn_journal_image_clear(&image);
	return whole;
}

FirnForkToken *
firn_fork_token_new(FirnRepo *repo, const FirnJournalHeader *header, uint64_t seq,
		    FirnChanges *changes, GPtrArray *parents, GError **error)
{
	g_autoptr(FirnForkToken) token = g_new0(FirnForkToken, 1);
	g_autoptr(GBytes) image = NULL;
	const FirnAncestor self = { .session = header->session, .seq = seq };
	const FirnId12 id = firn_id12_random();
	char text[FIRN_ID12_TEXT + 1];

	changes->fork_seq = MAX(changes->fork_seq, seq);
	if (!parent_image(header, seq, changes, parents, &image, error))
		return NULL;
	firn_id12_format(&id, text);
	token->fork = g_strdup(text);
	token->start = firn_journal_header_copy(header);
	memset(&token->start->session, 0, sizeof token->start->session);
	g_array_append_val(token->start->ancestors, self);
	g_free(token->start->fork);
	token->start->fork = g_strdup(text);
	token->start->created_us = firn_clock_now_us();
	if (image == NULL)
		return g_steal_pointer(&token);
	token->parent_key = firn_fork_parent_key(text);
	if (!firn_store_put(firn_repo_store(repo), token->parent_key, image, FIRN_PUT_IF_ABSENT,
			    NULL, NULL, error))
		return NULL;
	return g_steal_pointer(&token);
}

/* ---- as JSON ---- */

static void
add_text(JsonBuilder *builder, const char *name, const char *value)
{
	json_builder_set_member_name(builder, name);
	if (value != NULL)
		json_builder_add_string_value(builder, value);
	else
		json_builder_add_null_value(builder);
}

static void
add_number(JsonBuilder *builder, const char *name, uint64_t value)
{
	json_builder_set_member_name(builder, name);
	json_builder_add_int_value(builder, (gint64)value);
}

static void
add_ancestors(JsonBuilder *builder, const GArray *ancestors)
{
	json_builder_set_member_name(builder, "ancestors");
	json_builder_begin_array(builder);
	for (guint i = 0; i < ancestors->len; i++) {
		const FirnAncestor *ancestor = &g_array_index(ancestors, FirnAncestor, i);
		char session[FIRN_ID12_TEXT + 1];

		firn_id12_format(&ancestor->session, session);
		json_builder_begin_object(builder);
		add_text(builder, "session", session);
		add_number(builder, "seq", ancestor->seq);
		json_builder_end_object(builder);
	}
	json_builder_end_array(builder);
}

char *
firn_fork_token_to_json(const FirnForkToken *token)
{
	const FirnJournalHeader *start = token->start;
	g_autoptr(JsonBuilder) builder = json_builder_new();
	g_autoptr(JsonGenerator) generator = json_generator_new();
	g_autoptr(JsonNode) root = NULL;
	g_autofree char *created = firn_clock_format_us(start->created_us);
	char base[FIRN_ID12_TEXT + 1];

	firn_id12_format(&start->base, base);
	json_builder_begin_object(builder);
	add_number(builder, "firn_fork", TOKEN_VERSION);
	add_text(builder, "fork", token->fork);
	add_text(builder, "repository", start->repository);
	add_number(builder, "identity", start->identity);
	add_number(builder, "spec_version", start->spec_version);
	add_text(builder, "branch", start->branch);
	add_text(builder, "base", base);
	add_ancestors(builder, start->ancestors);
	add_text(builder, "parent", token->parent_key);
	add_text(builder, "created", created);
	json_builder_end_object(builder);
	root = json_builder_get_root(builder);
	json_generator_set_pretty(generator, TRUE);
	json_generator_set_root(generator, root);
	return json_generator_to_data(generator, NULL);
}

/* ---- from JSON: each taker says what is wrong, and the first complaint stays ---- */

typedef struct {
	JsonObject *object;
	const char *bad; /* name of the first bad member */
} Taker;

static const char *
take_text(Taker *taker, const char *name)
{
	JsonNode *node = json_object_get_member(taker->object, name);

	if (node != NULL && json_node_get_value_type(node) == G_TYPE_STRING)
		return json_node_get_string(node);
	if (taker->bad == NULL)
		taker->bad = name;
	return "";
}

static uint64_t
take_number(Taker *taker, const char *name)
{
	JsonNode *node = json_object_get_member(taker->object, name);

	if (node != NULL && json_node_get_value_type(node) == G_TYPE_INT64)
		return (uint64_t)json_node_get_int(node);
	if (taker->bad == NULL)
		taker->bad = name;
	return 0;
}

static FirnId12
take_id(Taker *taker, const char *name)
{
	const char *text = take_text(taker, name);
	FirnId12 id = { { 0 } };

	if (!firn_id12_parse(text, strlen(text), &id) && taker->bad == NULL)
		taker->bad = name;
	return id;
}

static void
take_ancestors(Taker *taker, GArray *out)
{
	JsonNode *node = json_object_get_member(taker->object, "ancestors");
	JsonArray *array =
		node != NULL && JSON_NODE_HOLDS_ARRAY(node) ? json_node_get_array(node) : NULL;
	guint n = array != NULL ? json_array_get_length(array) : 0;

	/* A token is always made by a session. */
	if (n == 0 && taker->bad == NULL)
		taker->bad = "ancestors";
	for (guint i = 0; i < n && taker->bad == NULL; i++) {
		JsonNode *element = json_array_get_element(array, i);
		Taker inner = { .bad = "ancestors" };
		FirnAncestor ancestor;

		if (JSON_NODE_HOLDS_OBJECT(element)) {
			inner = (Taker){ .object = json_node_get_object(element) };
			ancestor.session = take_id(&inner, "session");
			ancestor.seq = take_number(&inner, "seq");
			g_array_append_val(out, ancestor);
		}
		taker->bad = inner.bad;
	}
}

static FirnForkToken *
take_token(Taker *taker)
{
	g_autoptr(FirnForkToken) token = g_new0(FirnForkToken, 1);
	FirnJournalHeader *start = g_new0(FirnJournalHeader, 1);
	const char *created = take_text(taker, "created");
	FirnId12 fork = take_id(taker, "fork");
	char text[FIRN_ID12_TEXT + 1];
	uint64_t version = take_number(taker, "spec_version");

	token->start = start;
	start->ancestors = g_array_new(FALSE, TRUE, sizeof(FirnAncestor));
	firn_id12_format(&fork, text);
	token->fork = g_strdup(text);
	start->fork = g_strdup(text);
	start->repository = g_strdup(take_text(taker, "repository"));
	start->identity = take_number(taker, "identity");
	start->spec_version = (uint8_t)version;
	start->branch = g_strdup(take_text(taker, "branch"));
	start->base = take_id(taker, "base");
	take_ancestors(taker, start->ancestors);
	if (!json_object_has_member(taker->object, "parent") ||
	    !json_object_get_null_member(taker->object, "parent")) {
		/* One place is possible: a token cannot make a session read another object. */
		token->parent_key = firn_fork_parent_key(text);
		if (strcmp(take_text(taker, "parent"), token->parent_key) != 0 &&
		    taker->bad == NULL)
			taker->bad = "parent";
	}
	if (taker->bad == NULL && !firn_clock_parse_us(created, &start->created_us))
		taker->bad = "created";
	if (taker->bad == NULL && (version < 1 || version > 2))
		taker->bad = "spec_version";
	return taker->bad == NULL ? g_steal_pointer(&token) : NULL;
}

FirnForkToken *
firn_fork_token_from_json(const char *json, const char *name, GError **error)
{
	g_autoptr(JsonParser) parser = json_parser_new_immutable();
	size_t len = strlen(json);
	Taker taker = { NULL, NULL };
	FirnForkToken *token;
	JsonNode *root;

	if (len > TOKEN_MAX ||
	    firn_json_check((FirnSpan){ (const uint8_t *)json, len }, TOKEN_DEPTH, NULL) != NULL ||
	    !json_parser_load_from_data(parser, json, (gssize)len, NULL) ||
	    (root = json_parser_get_root(parser)) == NULL || !JSON_NODE_HOLDS_OBJECT(root) ||
	    !json_object_has_member(json_node_get_object(root), "firn_fork")) {
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_FORMAT,
			    "%s is no fork token: \"firn fork\" makes one", name);
		return NULL;
	}
	taker.object = json_node_get_object(root);
	if (take_number(&taker, "firn_fork") != TOKEN_VERSION) {
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_UNSUPPORTED,
			    "%s is a fork token of another version: use the firn that made it",
			    name);
		return NULL;
	}
	token = take_token(&taker);
	if (token == NULL)
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_FORMAT,
			    "fork token %s: member \"%s\" is missing or not valid", name,
			    taker.bad);
	return token;
}

/* ---- what is published ---- */

GPtrArray *
firn_fork_read(FirnStore *store, const char *key, GError **error)
{
	g_autoptr(GBytes) bytes = NULL;
	g_autoptr(GError) failed = NULL;
	int fd = firn_store_open_fd(store, key, &failed);

	if (fd >= 0)
		return firn_journal_read_fd(fd, key, NULL, error);
	/* What is not there, or no file, is found out here. */
	if (!firn_store_get(store, key, 0, UINT64_MAX, &bytes, NULL, error))
		return NULL;
	if (bytes == NULL) {
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_NOT_FOUND,
			    "%s is not in %s: was the fork removed?", key, firn_store_url(store));
		return NULL;
	}
	return firn_journal_decode(bytes, key, NULL, error);
}

static bool
is_ancestor(const FirnForkToken *token, const FirnSection *section)
{
	const GArray *ancestors = token->start->ancestors;

	for (guint i = 0; i < ancestors->len; i++) {
		const FirnAncestor *ancestor = &g_array_index(ancestors, FirnAncestor, i);

		if (firn_id12_equal(&ancestor->session, &section->header->session))
			return section->sealed && section->last_seq <= ancestor->seq &&
			       section->header->identity == token->start->identity &&
			       firn_id12_equal(&section->header->base, &token->start->base);
	}
	return false;
}

static void
section_free(gpointer section)
{
	firn_section_free(section);
}

GPtrArray *
firn_fork_token_parents(FirnRepo *repo, const FirnForkToken *token, GError **error)
{
	g_autoptr(GPtrArray) sections = NULL;

	if (token->parent_key == NULL)
		return g_ptr_array_new_with_free_func(section_free);
	if (firn_repo_identity(repo) != token->start->identity) {
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_CONFLICT,
			    "fork %s is of another repository than %s (it was made for %s)",
			    token->fork, firn_repo_url(repo), token->start->repository);
		return NULL;
	}
	sections = firn_fork_read(firn_repo_store(repo), token->parent_key, error);
	for (guint i = 0; sections != NULL && i < sections->len; i++) {
		if (is_ancestor(token, sections->pdata[i]))
			continue;
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_FORMAT,
			    "%s: section %u is not of an ancestor of fork %s", token->parent_key, i,
			    token->fork);
		return NULL;
	}
	return g_steal_pointer(&sections);
}

static bool
check_fork(const char *fork, GError **error)
{
	FirnId12 id;

	if (firn_id12_parse(fork, strlen(fork), &id))
		return true;
	g_set_error(error, FIRN_ERROR, FIRN_ERROR_INVALID,
		    "\"%s\" is no id of a fork: \"firn sessions\" lists them", fork);
	return false;
}

bool
firn_fork_publish(FirnRepo *repo, const char *fork, const FirnId12 *session, GBytes *journal,
		  GError **error)
{
	char text[FIRN_ID12_TEXT + 1];
	g_autofree char *key = NULL;

	if (!check_fork(fork, error))
		return false;
	firn_id12_format(session, text);
	key = firn_fork_journal_key(fork, text);
	return firn_store_put(firn_repo_store(repo), key, journal, FIRN_PUT_ANY, NULL, NULL, error);
}

GPtrArray *
firn_fork_list(FirnRepo *repo, const char *fork, GError **error)
{
	g_autofree char *prefix = g_strdup_printf("firn/sessions/%s/", fork);

	if (!check_fork(fork, error))
		return NULL;
	return firn_store_list_keys(firn_repo_store(repo), prefix, SUFFIX, error);
}
