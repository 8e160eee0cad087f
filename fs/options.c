#include "fs/options.h"

#include "core/base/clock.h"
#include "core/store/foreign.h"

#define FUSE_USE_VERSION 314

#include <fuse_opt.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const char firn_options_usage[] =
	"usage: firnfs [-f] [-d] [-o OPTION,...] REPOSITORY MOUNTPOINT\n"
	"\n"
	"Mount an Icechunk repository.  Returns when the mount is usable.\n"
	"\n"
	"  -f                  stay in the foreground\n"
	"  -d                  the same, and print every request\n"
	"  -h, -V              help, version\n"
	"  -o branch=NAME      write on top of this branch (main)\n"
	"  -o ro               read only\n"
	"  -o tag=NAME         read only: what a tag names\n"
	"  -o snapshot=ID      read only: one snapshot\n"
	"  -o as_of=TIME       read only: what the branch was then\n"
	"  -o fork=FILE        a worker's session, from a token of 'firn fork'\n"
	"  -o resume=ID        go on with a session whose driver ended\n"
	"  -o name=NAME        name of the hierarchy's directory\n"
	"  -o state_dir=DIR    where sessions keep their state\n"
	"  -o virtual=PREFIX   allow reading virtual chunks below this URL (repeatable)\n"
	"  -o cache_size=N     bytes for decoded manifests, K, M or G after it\n"
	"  -o cache_dir=DIR    where mounts of this host share them (/dev/shm), or off\n"
	"  -o inodes=N         changed chunks the kernel may remember at once (128K)\n"
	"  -o restart=off      end the mount if the driver dies; on: another one goes on\n"
	"  -o auto_unmount     unmount when the driver ends or dies (restart=off)\n"
	"  -o io_uring=on      requests through io_uring: read only, with restart=off (auto)\n"
	"  -o noxattr          no extended attributes, and no requests for them\n"
	"  -o passthrough=off  no reading of chunk files by the kernel itself (auto)\n"
	"  -o prefill=off      no content of small files with their open, read only (on)\n"
	"  -o spin=off         sleep before each request, however soon it comes (on)\n"
	"  -o allow_other      let other users in (with default_permissions)\n"
	"and what libfuse and mount(8) take.\n";

enum {
	KEY_BRANCH,
	KEY_VIRTUAL,
	KEY_IGNORE,
	KEY_ALLOW_OTHER,
	KEY_PERMISSIONS,
	KEY_AUTO_UNMOUNT,
	KEY_URING,
};

#define STRING(template, member)                           \
	{                                                  \
		template, offsetof(FirnOptions, member), 0 \
	}
#define FLAG(template, member)                             \
	{                                                  \
		template, offsetof(FirnOptions, member), 1 \
	}

static const struct fuse_opt option_table[] = {
	STRING("tag=%s", tag),
	STRING("snapshot=%s", snapshot),
	STRING("as_of=%s", as_of),
	STRING("name=%s", name),
	STRING("state_dir=%s", state_dir),
	STRING("fork=%s", fork),
	STRING("resume=%s", resume),
	STRING("cache_size=%s", cache_size),
	STRING("cache_dir=%s", cache_dir),
	STRING("inodes=%s", inodes),
	STRING("restart=%s", restart),
	STRING("io_uring=%s", io_uring),
	FUSE_OPT_KEY("io_uring", KEY_URING),
	FLAG("ro", read_only),
	FLAG("read_only", read_only),
	FLAG("noxattr", no_xattr),
	FLAG("passthrough=off", no_passthrough),
	FUSE_OPT_KEY("passthrough=auto", KEY_IGNORE),
	FLAG("prefill=off", no_prefill),
	FUSE_OPT_KEY("prefill=on", KEY_IGNORE),
	FLAG("spin=off", no_spin),
	FUSE_OPT_KEY("spin=on", KEY_IGNORE),
	FUSE_OPT_KEY("--", KEY_IGNORE),
	FLAG("-f", foreground),
	FLAG("-d", debug),
	FLAG("debug", debug),
	FLAG("-h", help),
	FLAG("--help", help),
	FLAG("-V", version),
	FLAG("--version", version),
	FUSE_OPT_KEY("branch=", KEY_BRANCH),
	FUSE_OPT_KEY("virtual=", KEY_VIRTUAL),
	FUSE_OPT_KEY("allow_other", KEY_ALLOW_OTHER),
	FUSE_OPT_KEY("auto_unmount", KEY_AUTO_UNMOUNT),
	FUSE_OPT_KEY("default_permissions", KEY_PERMISSIONS),
	/* What fstab says to others than the file system. */
	FUSE_OPT_KEY("defaults", KEY_IGNORE),
	FUSE_OPT_KEY("auto", KEY_IGNORE),
	FUSE_OPT_KEY("noauto", KEY_IGNORE),
	FUSE_OPT_KEY("nofail", KEY_IGNORE),
	FUSE_OPT_KEY("user", KEY_IGNORE),
	FUSE_OPT_KEY("users", KEY_IGNORE),
	FUSE_OPT_KEY("nouser", KEY_IGNORE),
	FUSE_OPT_KEY("nousers", KEY_IGNORE),
	FUSE_OPT_KEY("owner", KEY_IGNORE),
	FUSE_OPT_KEY("noowner", KEY_IGNORE),
	FUSE_OPT_KEY("group", KEY_IGNORE),
	FUSE_OPT_KEY("nogroup", KEY_IGNORE),
	FUSE_OPT_KEY("_netdev", KEY_IGNORE),
	/* Times of access: there are none. */
	FUSE_OPT_KEY("relatime", KEY_IGNORE),
	FUSE_OPT_KEY("norelatime", KEY_IGNORE),
	FUSE_OPT_KEY("strictatime", KEY_IGNORE),
	FUSE_OPT_KEY("nostrictatime", KEY_IGNORE),
	FUSE_OPT_KEY("diratime", KEY_IGNORE),
	FUSE_OPT_KEY("nodiratime", KEY_IGNORE),
	FUSE_OPT_KEY("lazytime", KEY_IGNORE),
	FUSE_OPT_KEY("nolazytime", KEY_IGNORE),
	FUSE_OPT_KEY("comment=", KEY_IGNORE),
	FUSE_OPT_KEY("x-", KEY_IGNORE),
	FUSE_OPT_END,
};

typedef struct {
	FirnOptions options; /* first: the table's offsets are into it */
	GPtrArray *arguments;
	char *other_branch; /* than the one in `options`; NULL: none was given */
} Parse;

/* Twice the same is the same. */
static void
take_branch(Parse *parse, const char *name)
{
	if (!parse->options.branch)
		parse->options.branch = strdup(name);
	else if (strcmp(parse->options.branch, name) != 0 && !parse->other_branch)
		parse->other_branch = g_strdup(name);
}

static int
take_option(void *data, const char *arg, int key, struct fuse_args *out_args)
{
	Parse *parse = data;

	(void)out_args;
	switch (key) {
	case KEY_BRANCH:
		take_branch(parse, arg + strlen("branch="));
		return 0;
	case KEY_VIRTUAL:
		g_ptr_array_add(parse->options.virtual_prefixes,
				g_strdup(arg + strlen("virtual=")));
		return 0;
	case KEY_IGNORE:
		return 0;
	case KEY_ALLOW_OTHER:
		parse->options.allow_other = 1;
		return 1;
	case KEY_AUTO_UNMOUNT:
		parse->options.auto_unmount = 1;
		return 1;
	case KEY_URING:
		free(parse->options.io_uring);
		parse->options.io_uring = g_strdup("on");
		return 0;
	case KEY_PERMISSIONS:
		parse->options.default_permissions = 1;
		return 1;
	case FUSE_OPT_KEY_NONOPT:
		g_ptr_array_add(parse->arguments, g_strdup(arg));
		return 0;
	default:
		/* fstab's x-initrd.mount and the like. */
		return g_str_has_prefix(arg, "x-") ? 0 : 1;
	}
}

G_GNUC_PRINTF(2, 3) static bool usage_error(GError **error, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	g_propagate_error(error, g_error_new_valist(FIRN_ERROR, FIRN_ERROR_INVALID, format, args));
	va_end(args);
	return false;
}

static bool
parse_size(const char *text, size_t *out_bytes)
{
	static const char units[] = "KMGT";
	const char *unit;
	char *end;
	guint64 value;
	unsigned shift = 0;

	value = g_ascii_strtoull(text, &end, 10);
	if (end == text || *text == '-' || !value)
		return false;
	unit = *end ? strchr(units, g_ascii_toupper(*end)) : NULL;
	if (unit) {
		shift = 10u * (unsigned)(unit - units + 1);
		end++;
	}
	if (*end || value > (SIZE_MAX >> shift))
		return false;
	*out_bytes = (size_t)value << shift;
	return true;
}

static bool
check_sources(const FirnOptions *options, GError **error)
{
	int n = !!options->tag + !!options->snapshot + !!options->as_of + !!options->fork +
		!!options->resume;

	if (n > 1)
		return usage_error(
			error, "%s",
			"only one of tag, snapshot, as_of, fork and resume can be given");
	if (options->branch && n && !options->as_of)
		return usage_error(error, "%s",
				   "branch cannot be given with tag, snapshot, fork or resume");
	if (options->read_only && (options->fork || options->resume))
		return usage_error(error, "%s", "a fork or a resumed session is not read-only");
	return true;
}

/* What a ring holds is asked once, and who waits there keeps others waiting. */
static bool
check_uring(FirnOptions *options, GError **error)
{
	if (options->io_uring && !strcmp(options->io_uring, "auto")) {
		free(options->io_uring);
		options->io_uring = NULL;
	}
	if (!options->io_uring || !strcmp(options->io_uring, "off"))
		return true;
	if (strcmp(options->io_uring, "on") != 0)
		return usage_error(error, "io_uring=%s: it can be on, off or auto",
				   options->io_uring);
	if (!firn_options_are_read_only(options))
		return usage_error(error, "%s", "io_uring is for read-only mounts");
	if (options->restart && !strcmp(options->restart, "on"))
		return usage_error(error, "%s",
				   "a driver that uses io_uring cannot be replaced: "
				   "give io_uring with restart=off, or neither");
	return true;
}

static bool
check_name(const char *name, GError **error)
{
	if (!name)
		return true;
	if (!*name || strchr(name, '/') || !strcmp(name, ".") || !strcmp(name, "..") ||
	    !strcmp(name, ".firn") || strlen(name) > 255)
		return usage_error(error, "'%s' cannot be the name of a directory here", name);
	return true;
}

static void
make_absolute(char **path)
{
	char *full;

	if (!*path)
		return;
	full = g_canonicalize_filename(*path, NULL);
	/* What fuse_opt_parse() stores comes from malloc(), as does what GLib gives out. */
	free(*path);
	*path = full;
}

/* As the kernel names it, as far as it can be told. */
static char *
real_path(const char *path)
{
	char *real = realpath(path, NULL);

	return real ? real : g_canonicalize_filename(path, NULL);
}

static bool
parse_inodes(FirnOptions *options)
{
	size_t n;

	if (!parse_size(options->inodes, &n) || n > 1u << 30)
		return false;
	options->max_inodes = (uint32_t)n;
	return true;
}

static bool
check_arguments(FirnOptions *options, GPtrArray *arguments, GError **error)
{
	bool implied = options->fork || options->resume;

	if (arguments->len > 2)
		return usage_error(error, "too many arguments: '%s'",
				   (char *)g_ptr_array_index(arguments, 2));
	if (arguments->len < (implied ? 1u : 2u))
		return usage_error(error, "%s",
				   arguments->len ? "a repository and a mount point are needed"
						  : "no mount point given");
	if (arguments->len == 2)
		options->repository = g_strdup(g_ptr_array_index(arguments, 0));
	options->mountpoint = real_path(g_ptr_array_index(arguments, arguments->len - 1));
	make_absolute(&options->state_dir);
	make_absolute(&options->fork);
	if (options->cache_dir && strcmp(options->cache_dir, "off") != 0)
		make_absolute(&options->cache_dir);
	for (guint i = 0; i < options->virtual_prefixes->len; i++)
		if (!firn_foreign_check_prefix(options->virtual_prefixes->pdata[i], error))
			return false;
	if (options->cache_size && !parse_size(options->cache_size, &options->cache_bytes))
		return usage_error(error, "cache_size=%s is not a number of bytes",
				   options->cache_size);
	if (options->inodes && !parse_inodes(options))
		return usage_error(error, "inodes=%s is not a number of files from 1 to 1G",
				   options->inodes);
	if (options->as_of && !firn_clock_parse_us(options->as_of, &options->as_of_us))
		return usage_error(error,
				   "'%s' is no time: write 2026-01-31 or 2026-01-31T12:00:00Z",
				   options->as_of);
	if (options->restart && strcmp(options->restart, "on") != 0 &&
	    strcmp(options->restart, "off") != 0)
		return usage_error(error, "restart=%s: it can be on or off", options->restart);
	return check_sources(options, error) && check_uring(options, error) &&
	       check_name(options->name, error);
}

bool
firn_options_are_read_only(const FirnOptions *options)
{
	return options->read_only || options->tag || options->snapshot || options->as_of;
}

FirnOptions *
firn_options_parse(struct fuse_args *args, GError **error)
{
	Parse parse = { .arguments = g_ptr_array_new_with_free_func(g_free) };
	g_autoptr(GPtrArray) arguments = parse.arguments;
	g_autoptr(FirnOptions) options = NULL;
	g_autofree char *other_branch = NULL;

	parse.options.virtual_prefixes = g_ptr_array_new_with_free_func(g_free);
	if (fuse_opt_parse(args, &parse, option_table, take_option)) {
		options = g_memdup2(&parse.options, sizeof(parse.options));
		usage_error(error, "%s", "the options cannot be read");
		return NULL;
	}
	options = g_memdup2(&parse.options, sizeof(parse.options));
	other_branch = parse.other_branch;
	if (options->debug)
		options->foreground = 1;
	if (options->help || options->version)
		return g_steal_pointer(&options);
	if (other_branch)
		usage_error(error, "on which branch: %s or %s?", options->branch, other_branch);
	if (other_branch || !check_arguments(options, arguments, error))
		return NULL;
	return g_steal_pointer(&options);
}

void
firn_options_free(FirnOptions *options)
{
	if (!options)
		return;
	free(options->branch);
	free(options->tag);
	free(options->snapshot);
	free(options->as_of);
	free(options->name);
	free(options->state_dir);
	free(options->fork);
	free(options->resume);
	free(options->cache_size);
	free(options->cache_dir);
	free(options->inodes);
	free(options->restart);
	free(options->io_uring);
	g_free(options->repository);
	g_free(options->mountpoint);
	g_ptr_array_unref(options->virtual_prefixes);
	g_free(options);
}
