#ifndef FIRN_TESTS_UNIT_REPO_INFO_FIXTURE_H
#define FIRN_TESTS_UNIT_REPO_INFO_FIXTURE_H

#include "core/base/error.h"
#include "core/format/repo_info.h"
#include "tests/unit/harness.h"

G_GNUC_UNUSED static FirnSpan
span_of(GBytes *bytes)
{
	gsize len;
	const void *data = g_bytes_get_data(bytes, &len);

	return (FirnSpan){ data, len };
}

G_GNUC_UNUSED static FirnRepoInfo *
decode(GBytes *file)
{
	g_autoptr(GError) error = NULL;
	FirnRepoInfo *info = firn_repo_info_decode(file, &error);

	ck_assert_no_error(error);
	ck_assert_ptr_nonnull(info);
	return info;
}

G_GNUC_UNUSED static GBytes *
encode(const FirnRepoInfo *info)
{
	g_autoptr(GError) error = NULL;
	GBytes *file = firn_repo_info_encode(info, 3, &error);

	ck_assert_no_error(error);
	return file;
}

G_GNUC_UNUSED static FirnId12
id_of(unsigned n)
{
	FirnId12 id = { { 0x80, (uint8_t)(n >> 16), (uint8_t)(n >> 8), (uint8_t)n } };

	return id;
}

#endif
