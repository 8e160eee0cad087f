#include "core/base/error.h"
#include "core/repo/journal_record.h"
#include "tests/unit/journal_work.h"

#include <unistd.h>

START_TEST(decode__log_cut_at_every_byte__recovers_a_prefix)
{
	g_autoptr(Work) work = work_new();
	g_autoptr(GBytes) all = NULL;
	uint64_t n_prefixes = 0, last = 0;

	work_all(work);
	all = file_bytes(work->path);
	for (size_t len = 0; len < g_bytes_get_size(all); len++) {
		g_autoptr(GBytes) part = g_bytes_new_from_bytes(all, 0, len);
		g_autoptr(GError) error = NULL;
		uint64_t torn = 0;
		g_autoptr(FirnSection) section = decode_one(part, &torn, &error);
		g_autofree char *text = NULL;

		ck_assert((section == NULL) == (error != NULL));
		if (section == NULL) {
			ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_FORMAT);
			ck_assert_uint_eq(n_prefixes, 0);
			continue;
		}
		text = describe(section->changes);
		ck_assert_uint_lt(section->last_seq, work->texts->len);
		ck_assert_str_eq(text, work->texts->pdata[section->last_seq]);
		ck_assert(section->last_seq == last || section->last_seq == last + 1);
		last = section->last_seq;
		n_prefixes++;
	}
	ck_assert_uint_eq(last, work->texts->len - 2);
	ck_assert_uint_gt(n_prefixes, 0);
}
END_TEST

START_TEST(decode__log_byte_flipped__error_or_prefix)
{
	g_autoptr(Work) work = work_new();
	g_autoptr(GBytes) all = NULL;
	g_autofree uint8_t *data = NULL;
	size_t len, last_from;

	work_all(work);
	all = file_bytes(work->path);
	len = g_bytes_get_size(all);
	data = g_memdup2(g_bytes_get_data(all, NULL), len);
	last_from = len - 60;
	for (size_t i = 0; i < len * 3; i++) {
		static const uint8_t masks[] = { 0x01, 0x80, 0xff };
		g_autoptr(GError) error = NULL;
		g_autoptr(GBytes) bytes = NULL;
		g_autoptr(FirnSection) section = NULL;
		g_autofree char *text = NULL;

		data[i / 3] ^= masks[i % 3];
		bytes = g_bytes_new(data, len);
		data[i / 3] ^= masks[i % 3];
		section = decode_one(bytes, NULL, &error);
		ck_assert((section == NULL) == (error != NULL));
		if (section == NULL)
			continue;
		/* Only the last record can be taken for a torn one. */
		ck_assert_uint_gt(i / 3, last_from);
		text = describe(section->changes);
		ck_assert_str_eq(text, work->texts->pdata[section->last_seq]);
	}
}
END_TEST

START_TEST(decode__sealed_cut_or_flipped__error_or_not_sealed)
{
	g_autoptr(Work) work = work_new();
	g_autoptr(GBytes) all = NULL;
	g_autofree uint8_t *data = NULL;
	size_t len;

	work_all(work);
	all = net_bytes(work);
	len = g_bytes_get_size(all);
	data = g_memdup2(g_bytes_get_data(all, NULL), len);
	for (size_t i = 0; i < len; i++) {
		g_autoptr(GBytes) cut = g_bytes_new_from_bytes(all, 0, i);
		g_autoptr(GError) error = NULL;
		g_autoptr(GBytes) flipped = NULL;
		g_autoptr(FirnSection) section = decode_one(cut, NULL, &error);
		g_autoptr(FirnSection) other = NULL;
		g_autofree char *text = NULL;

		ck_assert((section == NULL) == (error != NULL));
		ck_assert(section == NULL || !section->sealed);
		g_clear_error(&error);
		data[i] ^= 0x10;
		flipped = g_bytes_new(data, len);
		data[i] ^= 0x10;
		other = decode_one(flipped, NULL, &error);
		ck_assert((other == NULL) == (error != NULL));
		if (other == NULL)
			continue;
		ck_assert(!other->sealed);
		text = describe(other->changes);
		ck_assert_str_eq(text, work->texts->pdata[work->texts->len - 1]);
	}
}
END_TEST

START_TEST(decode__damage_before_the_tail__names_journal_and_offset)
{
	g_autoptr(Work) work = work_new();
	g_autoptr(GBytes) all = NULL;
	g_autoptr(GBytes) bytes = NULL;
	g_autoptr(GError) error = NULL;
	g_autofree uint8_t *data = NULL;
	g_autofree char *wanted = NULL;
	size_t len, from;

	all = file_bytes(work->path);
	from = g_bytes_get_size(all);
	g_clear_pointer(&all, g_bytes_unref);
	work_all(work);
	all = file_bytes(work->path);
	len = g_bytes_get_size(all);
	data = g_memdup2(g_bytes_get_data(all, NULL), len);
	data[from + 20] ^= 1;
	bytes = g_bytes_new(data, len);
	ck_assert_ptr_null(firn_journal_decode(bytes, "w7.journal", NULL, &error));
	ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_FORMAT);
	wanted = g_strdup_printf("journal w7.journal: record at offset %zu: ", from);
	ck_assert_msg(strstr(error->message, wanted) != NULL, "%s", error->message);
}
END_TEST

START_TEST(decode__two_sections__both_and_only_after_a_seal)
{
	g_autoptr(Work) work = work_new();
	g_autoptr(GError) error = NULL;
	g_autoptr(GPtrArray) sections = NULL;
	g_autoptr(FirnJournalHeader) other = make_header(2);
	g_autoptr(FirnChanges) nothing = firn_changes_new();
	g_autoptr(GBytes) bytes = NULL;
	g_autoptr(GBytes) bad = NULL;
	g_autoptr(GBytes) log = NULL;
	g_autofree char *copy = NULL;
	GByteArray *out = g_byte_array_new();
	gsize len;

	work_all(work);
	firn_journal_encode(work->header, work->changes, firn_journal_last_seq(work->journal), out);
	firn_journal_encode(other, nothing, 0, out);
	bytes = g_byte_array_free_to_bytes(out);
	sections = firn_journal_decode(bytes, "j", NULL, &error);
	ck_assert_no_error(error);
	ck_assert_uint_eq(sections->len, 2);
	ck_assert_uint_eq(((FirnSection *)sections->pdata[1])->header->session.bytes[0], 2);
	ck_assert(((FirnSection *)sections->pdata[1])->sealed);

	/* The same through a file. */
	copy = g_build_filename(work->directory, "copy", NULL);
	ck_assert(firn_journal_write(copy, sections, &error));
	log = file_bytes(copy);
	ck_assert(g_bytes_equal(log, bytes));
	g_unlink(copy);
	g_clear_pointer(&log, g_bytes_unref);

	log = file_bytes(work->path);
	out = g_byte_array_new();
	g_byte_array_append(out, g_bytes_get_data(log, &len), (guint)g_bytes_get_size(log));
	firn_journal_encode(other, nothing, 0, out);
	bad = g_byte_array_free_to_bytes(out);
	ck_assert_ptr_null(firn_journal_decode(bad, "j", NULL, &error));
	ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_FORMAT);
}
END_TEST

/* ---- contents no writer writes ---- */

static const FirnSpan group = { (const uint8_t *)"{\"zarr_format\":3,\"node_type\":\"group\"}",
				37 };

/* What was built (taken) is refused, for a reason that says `what`. */
static void
assert_damaged(GByteArray *out, const char *what)
{
	g_autoptr(GBytes) bytes = g_byte_array_free_to_bytes(out);
	g_autoptr(GError) error = NULL;

	ck_assert_ptr_null(firn_journal_decode(bytes, "j", NULL, &error));
	ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_FORMAT);
	ck_assert_ptr_nonnull(strstr(error->message, what));
}

static void
good_put(FirnRecord *record, uint64_t seq)
{
	*record = (FirnRecord){ .kind = FIRN_RECORD_NODE_PUT,
				.seq = seq,
				.id = node_id(1),
				.path = { (const uint8_t *)"/g", 2 },
				.document = group };
}

/* Change one of two good records so that they may not be. */
static void
spoil(int which, FirnRecord *first, FirnRecord *second)
{
	static const char *const paths[] = { "g", "//", "/g/", "/../x", "/g/\xff", "/." };

	if (which < 6) {
		second->path = (FirnSpan){ (const uint8_t *)paths[which], strlen(paths[which]) };
	} else if (which == 6) {
		second->seq = 3;
	} else if (which == 7) {
		second->id = node_id(2); /* two at one path */
	} else if (which == 8) {
		second->document.len--;
	} else if (which == 9) {
		second->kind = FIRN_RECORD_CHUNK; /* a chunk of a group */
		second->ref.kind = FIRN_REF_NATIVE;
	} else if (which == 10) {
		second->kind = FIRN_RECORD_CHUNK; /* of a node without a name */
		second->id = node_id(3);
	} else if (which == 11) {
		second->kind = FIRN_RECORD_NODE_MOVE;
	} else if (which == 12) {
		second->kind = (FirnRecordKind)9;
	} else if (which == 13) {
		second->kind = FIRN_RECORD_SEAL;
		second->seq = 1;
		second->number = 2;
	} else if (which == 14) {
		first->kind = FIRN_RECORD_NODE_DELETE; /* a chunk of a deleted node */
		second->kind = FIRN_RECORD_CHUNK;
	} else if (which == 15) {
		first->kind = second->kind = FIRN_RECORD_CHUNK; /* two ranks */
		first->has_path = true;
		second->rank = 2;
	} else if (which == 16) {
		second->kind = FIRN_RECORD_PENDING;
		second->path = (FirnSpan){ (const uint8_t *)"/", 1 };
	} else if (which == 17) {
		second->kind = FIRN_RECORD_CHUNK;
		second->ref =
			(FirnRef){ .kind = FIRN_REF_NATIVE, .offset = INT64_MAX, .length = 1 };
	} else if (which == 18 || which == 20) {
		second->kind = which == 18 ? FIRN_RECORD_INTENT : FIRN_RECORD_DURABLE;
		second->seq = 1;
		second->number = 2;
	} else {
		second->has_keep = true;
	}
}

START_TEST(decode__whole_record_with_bad_content__format_error_names_offset)
{
	g_autoptr(FirnJournalHeader) header = make_header(1);
	uint64_t seed = firn_journal_record_seed(&header->session);
	GByteArray *out = g_byte_array_new();
	FirnRecord first, second;

	firn_journal_record_add_header(header, FIRN_JOURNAL_LOG, out);
	good_put(&first, 1);
	good_put(&second, 2);
	spoil(_i, &first, &second);
	ck_assert(firn_journal_record_encode(&first, seed, out));
	ck_assert(firn_journal_record_encode(&second, seed, out));
	assert_damaged(out, "offset ");
}
END_TEST

START_TEST(decode__net_form_with_repeats__format_error)
{
	g_autoptr(FirnJournalHeader) header = make_header(1);
	uint64_t seed = firn_journal_record_seed(&header->session);
	GByteArray *out = g_byte_array_new();
	FirnRecord record;

	firn_journal_record_add_header(header, FIRN_JOURNAL_NET, out);
	good_put(&record, 1);
	record.has_path = true;
	record.kind = _i == 0   ? FIRN_RECORD_NODE_PUT
		      : _i == 1 ? FIRN_RECORD_CHUNK
				: FIRN_RECORD_PENDING;
	record.ref = ref_of(FIRN_REF_INLINE);
	ck_assert(firn_journal_record_encode(&record, seed, out));
	record.seq = 2;
	ck_assert(firn_journal_record_encode(&record, seed, out));
	assert_damaged(out, "twice");
}
END_TEST

START_TEST(decode__net_form_with_a_number_out_of_range__format_error)
{
	g_autoptr(FirnJournalHeader) header = make_header(1);
	uint64_t seed = firn_journal_record_seed(&header->session);
	GByteArray *out = g_byte_array_new();
	FirnRecord record;

	firn_journal_record_add_header(header, FIRN_JOURNAL_NET, out);
	good_put(&record, FIRN_CHUNK_SEQ_MAX + 1);
	ck_assert(firn_journal_record_encode(&record, seed, out));
	assert_damaged(out, "out of range");
}
END_TEST

START_TEST(decode__newer_version__unsupported)
{
	g_autoptr(FirnJournalHeader) header = make_header(1);
	g_autoptr(GError) error = NULL;
	g_autoptr(GBytes) bytes = NULL;
	GByteArray *out = g_byte_array_new();

	firn_journal_record_add_header(header, FIRN_JOURNAL_LOG, out);
	out->data[8] = 2;
	bytes = g_byte_array_free_to_bytes(out);
	ck_assert_ptr_null(firn_journal_decode(bytes, "j", NULL, &error));
	ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_UNSUPPORTED);
}
END_TEST

/* ---- after the machine stopped ---- */

static FirnSection *
stopped_one(GBytes *bytes, uint64_t *out_torn, GError **error)
{
	g_autoptr(GPtrArray) sections = firn_journal_decode_stopped(bytes, "j", out_torn, error);

	return sections != NULL ? g_ptr_array_steal_index(sections, 0) : NULL;
}

static size_t
size_of(const char *path)
{
	g_autoptr(GBytes) bytes = file_bytes(path);

	return g_bytes_get_size(bytes);
}

START_TEST(decode_stopped__objects_behind_the_note__cut_at_the_first)
{
	g_autoptr(Work) work = work_new();
	const FirnId12 snapshot = id12(7);
	g_autofree char *cut = NULL;
	g_autoptr(GBytes) kept = NULL;
	g_autoptr(GError) error = NULL;
	g_autoptr(FirnSection) section = NULL;
	g_autoptr(FirnSection) killed = NULL;
	g_autoptr(GBytes) bytes = NULL;
	g_autofree char *text = NULL;
	uint64_t torn = 0;
	size_t end;

	work_put(work, 2, "/new", "9,9000", true);
	work_chunk(work, 2, "/new", 2, 3, FIRN_REF_NATIVE);
	ck_assert(firn_journal_durable(work->journal, 2, &error));
	work_chunk(work, 2, "/new", 2, 1, FIRN_REF_INLINE);
	end = size_of(work->path);
	work_chunk(work, 2, "/new", 2, 4, FIRN_REF_NATIVE);
	work_chunk(work, 2, "/new", 2, 5, FIRN_REF_INLINE);
	ck_assert(firn_journal_intent(work->journal, 2, &snapshot, &error));
	bytes = file_bytes(work->path);
	section = stopped_one(bytes, &torn, &error);
	ck_assert_no_error(error);
	ck_assert_uint_eq(torn, g_bytes_get_size(bytes) - end);
	ck_assert_uint_eq(section->last_seq, 3);
	ck_assert_uint_eq(section->durable_seq, 2);
	text = describe(section->changes);
	ck_assert_str_eq(text, work->texts->pdata[3]);
	/* The commit of what was durable may have been made. */
	ck_assert(firn_id12_equal(&section->intent, &snapshot));
	/* Killed, it lost nothing. */
	killed = decode_one(bytes, &torn, &error);
	ck_assert_uint_eq(torn, 0);
	ck_assert_uint_eq(killed->last_seq, 5);
	firn_journal_close(g_steal_pointer(&work->journal));
	g_clear_pointer(&section, firn_section_free);
	work->journal = firn_journal_resume(work->path, true, &section, &torn, &error);
	ck_assert_no_error(error);
	cut = g_strconcat(work->path, FIRN_JOURNAL_CUT, NULL);
	kept = file_bytes(cut);
	ck_assert(g_bytes_equal(kept, bytes));
	ck_assert_int_eq(unlink(cut), 0);
	g_clear_pointer(&killed, firn_section_free);
	g_clear_pointer(&bytes, g_bytes_unref);
	bytes = file_bytes(work->path);
	killed = decode_one(bytes, &torn, &error);
	ck_assert_uint_eq(killed->last_seq, 3);
	ck_assert(firn_id12_equal(&killed->intent, &snapshot));
}
END_TEST

/* Records 1 to 3, a note, 4 and 5, and more notes as asked; then a hole over record 4. */
static GBytes *
with_hole(Work *work, unsigned notes, size_t *out_at)
{
	g_autoptr(GError) error = NULL;
	GBytes *bytes;
	GByteArray *array;

	work_put(work, 2, "/new", "9,9000", true);
	work_chunk(work, 2, "/new", 2, 1, FIRN_REF_INLINE);
	work_chunk(work, 2, "/new", 2, 3, FIRN_REF_NATIVE);
	ck_assert(firn_journal_durable(work->journal, 3, &error));
	*out_at = size_of(work->path);
	work_chunk(work, 2, "/new", 2, 5, FIRN_REF_INLINE);
	work_chunk(work, 2, "/new", 2, 6, FIRN_REF_INLINE);
	for (unsigned i = 0; i < notes; i++)
		ck_assert(firn_journal_durable(work->journal, 5, &error));
	bytes = file_bytes(work->path);
	array = g_bytes_unref_to_array(bytes);
	memset(array->data + *out_at, 0, 6);
	return g_byte_array_free_to_bytes(array);
}

START_TEST(decode_stopped__hole_with_whole_records_behind__cut_unless_it_was_durable)
{
	g_autoptr(Work) work = work_new();
	g_autoptr(GError) error = NULL;
	g_autoptr(FirnSection) section = NULL;
	g_autoptr(GBytes) bytes = NULL;
	uint64_t torn = 0;
	size_t at = 0;

	bytes = with_hole(work, (unsigned)_i, &at);
	ck_assert_ptr_null(firn_journal_decode(bytes, "j", NULL, &error));
	ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_FORMAT);
	g_clear_error(&error);
	section = stopped_one(bytes, &torn, &error);
	if (_i < 2) {
		ck_assert_no_error(error);
		ck_assert_uint_eq(torn, g_bytes_get_size(bytes) - at);
		ck_assert_uint_eq(section->last_seq, 3);
	} else {
		ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_FORMAT);
		ck_assert_ptr_null(section);
	}
}
END_TEST

static Suite *
make_suite(void)
{
	Suite *suite = suite_create("journal_decode");
	TCase *tcase = tcase_create("all");

	tcase_set_timeout(tcase, 60);
	tcase_add_test(tcase, decode__log_cut_at_every_byte__recovers_a_prefix);
	tcase_add_test(tcase, decode__log_byte_flipped__error_or_prefix);
	tcase_add_test(tcase, decode__sealed_cut_or_flipped__error_or_not_sealed);
	tcase_add_test(tcase, decode__damage_before_the_tail__names_journal_and_offset);
	tcase_add_test(tcase, decode__two_sections__both_and_only_after_a_seal);
	tcase_add_loop_test(tcase, decode__whole_record_with_bad_content__format_error_names_offset,
			    0, 21);
	tcase_add_loop_test(tcase, decode__net_form_with_repeats__format_error, 0, 3);
	tcase_add_test(tcase, decode__net_form_with_a_number_out_of_range__format_error);
	tcase_add_test(tcase, decode__newer_version__unsupported);
	tcase_add_test(tcase, decode_stopped__objects_behind_the_note__cut_at_the_first);
	tcase_add_loop_test(
		tcase, decode_stopped__hole_with_whole_records_behind__cut_unless_it_was_durable, 0,
		3);
	suite_add_tcase(suite, tcase);
	return suite;
}

TEST_MAIN(make_suite)
