#include "core/repo/session_priv.h"

#include <inttypes.h>
#include <string.h>

/*
 * What a log does not say: up to which record forks were made of the session.  A
 * file in the state directory says it, with the session and the base whose records
 * are counted: both begin anew in a journal that takes the place of another.
 */

static char *
forked_path(const FirnSession *session)
{
	return g_strconcat(session->directory, "/forked", NULL);
}

static char *
forked_text(const FirnSession *session, uint64_t seq)
{
	char id[FIRN_ID12_TEXT + 1], base[FIRN_ID12_TEXT + 1];

	firn_id12_format(&session->header->session, id);
	firn_id12_format(&session->header->base, base);
	return g_strdup_printf("%s %s %" PRIu64 "\n", id, base, seq);
}

static bool
write_forked(const FirnSession *session, uint64_t seq, GError **error)
{
	g_autofree char *path = forked_path(session);
	g_autofree char *text = forked_text(session, seq);

	return firn_state_write(path, text, error);
}

/* All it had, if the file cannot be understood. */
static uint64_t
read_forked(const FirnSession *session)
{
	g_autofree char *path = forked_path(session);
	g_autofree char *start = forked_text(session, 0);
	g_autofree char *text = NULL;
	g_autoptr(GError) reason = NULL;
	size_t len = strlen(start) - strlen("0\n");
	guint64 seq;

	if (!g_file_get_contents(path, &text, NULL, &reason))
		return g_error_matches(reason, G_FILE_ERROR, G_FILE_ERROR_NOENT) ? 0 : UINT64_MAX;
	if (strncmp(text, start, len) != 0)
		return strlen(text) > len ? 0 : UINT64_MAX;
	g_strchomp(text);
	return g_ascii_string_to_unsigned(text + len, 10, 0, UINT64_MAX, &seq, NULL) ? seq
										     : UINT64_MAX;
}

void
firn_session_limit_forked(FirnSession *session, uint64_t most)
{
	session->changes->fork_seq = MIN(most, read_forked(session));
}

FirnForkToken *
firn_session_fork(FirnSession *session, GError **error)
{
	uint64_t seq = firn_journal_last_seq(session->journal);

	if (!write_forked(session, MAX(session->changes->fork_seq, seq), error))
		return NULL;
	return firn_fork_token_new(session->repo, session->header, seq, session->changes,
				   session->parents, error);
}
