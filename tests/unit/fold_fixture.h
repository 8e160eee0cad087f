#ifndef FIRN_TESTS_UNIT_FOLD_FIXTURE_H
#define FIRN_TESTS_UNIT_FOLD_FIXTURE_H

#include "core/repo/journal_fold.h"
#include "core/repo/refs.h"
#include "tests/unit/lineage.h"

#include <sys/mman.h>
#include <unistd.h>

/* Journals of actors whose chunks stay in the file; all are of the array /a. */

#define SIDE  64u
#define ARRAY "group /;array /a 64x64 1x1"

static inline int
file_of(const Actor *actor)
{
	g_autoptr(GByteArray) bytes = g_byte_array_new();
	int fd = memfd_create("journal", MFD_CLOEXEC);

	firn_journal_encode(actor->section->header, actor->section->changes,
			    actor->section->last_seq, bytes);
	ck_assert_int_eq(write(fd, bytes->data, bytes->len), (ssize_t)bytes->len);
	return fd;
}

/* `*out_fd`: stays the caller's; may be NULL. */
static inline FirnSource *
folded(const Actor *actor, int *out_fd)
{
	int fd = file_of(actor);
	GPtrArray *sections = firn_journal_decode_folded(dup(fd), "folded");

	ck_assert_ptr_nonnull(sections);
	if (out_fd != NULL)
		*out_fd = fd;
	else
		close(fd);
	return firn_source_new("folded", sections);
}

static inline FirnChunkMap *
map_of(const FirnChanges *changes)
{
	return firn_changes_find_path(changes, "/a")->chunks;
}

static inline FirnSection *
section_of(const FirnSource *source)
{
	return source->sections->pdata[0];
}

/* What becomes of `base` with other changes; print_tree() of it. */
static inline char *
commit_instead(FirnRepo *repo, const FirnChanges *changes, const FirnId12 *base)
{
	FirnCommitOptions options = { .branch = "other" };
	g_autoptr(GError) error = NULL;
	FirnCommitResult result;

	ck_assert(firn_refs_create_branch(repo, "other", base, &error));
	ck_assert(commit_changes(repo, changes, &options, base, &result, NULL, &error));
	return print_tree(repo, &result.snapshot);
}

#endif
