# make [all]   check  check-asan  check-tsan  check-mount  cov  bench
#              fuzz  fuzz-check  lint  format  format-check  install  clean
# Variables:   V=1 (show commands)  VARIANT=debug|release|asan|tsan|cov|fuzz
#              CC CFLAGS CPPFLAGS LDFLAGS PREFIX DESTDIR  T=<test name>
VERSION := 0.1.0
VARIANT ?= debug
PREFIX  ?= /usr/local
BUILD   := build/$(VARIANT)
PKGS    := fuse3 glib-2.0 libzstd json-glib-1.0 libxxhash yaml-0.1
LLVM    ?= -14

Q       := $(if $(filter 1,$(V)),,@)
say      = $(if $(filter 1,$(V)),,@printf '  %-7s %s\n' '$(1)' '$(patsubst $(BUILD)/%,%,$@)')

# ---- flags: ours are separate, so CFLAGS stays the user's ----
CFLAGS  ?= -O2 -g
WARN    := -Wall -Wextra -Wshadow -Wvla -Wundef -Wpointer-arith -Wwrite-strings \
           -Wstrict-prototypes -Wmissing-prototypes -Wold-style-definition -Wcast-qual \
           -Wformat=2 -Wconversion -Wno-sign-conversion -Wswitch-enum -Wimplicit-fallthrough
ifneq ($(WERROR),0)
WARN    += -Werror
endif
san.release := -DG_DISABLE_CAST_CHECKS
san.debug   := -O0
san.asan    := -O1 -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
san.tsan    := -O1 -fsanitize=thread
san.cov     := -O0 --coverage
san.fuzz    := -O1 -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all -DFIRN_FUZZING
ifeq ($(VARIANT),fuzz)
CC      := clang$(LLVM)
endif

PKG_CFLAGS := $(shell pkg-config --cflags $(PKGS))
PKG_LIBS   := $(shell pkg-config --libs $(PKGS))
FIRN_CPPFLAGS := -I. -D_GNU_SOURCE -DFIRN_VERSION='"$(VERSION)"' $(PKG_CFLAGS)
FIRN_CFLAGS   := -std=gnu17 -fno-common -fvisibility=hidden $(WARN)
compile  = $(CC) $(FIRN_CPPFLAGS) $(CPPFLAGS) $(FIRN_CFLAGS) $(CFLAGS) $(san.$(VARIANT))
link     = $(CC) $(CFLAGS) $(san.$(VARIANT)) $(LDFLAGS)

# ---- files: a new .c in its folder is found by itself ----
CORE    := $(wildcard core/*/*.c)
FS      := $(wildcard fs/*.c)
TOOLS   := $(wildcard tools/*.c)
UNIT    := $(wildcard tests/unit/test-*.c)
MOUNT   := $(wildcard tests/mount/test-*.c)
FUZZ    := $(wildcard tests/fuzz/fuzz-*.c)
BENCH   := $(wildcard tests/bench/bench-*.c)
HDRS    := $(wildcard core/*/*.h fs/*.h tools/*.h tests/*/*.h)
ALL_C   := $(CORE) $(FS) $(TOOLS) $(UNIT) $(MOUNT) $(FUZZ) $(BENCH) \
           tests/fuzz/replay.c
obj      = $(patsubst %.c,$(BUILD)/%.o,$(1))
exe      = $(patsubst %.c,$(BUILD)/%,$(1))

.PHONY: all
all: $(BUILD)/bin/firnfs $(BUILD)/bin/firn
.DELETE_ON_ERROR:
.SECONDARY:

# Recompile everything when a flag changes.
$(BUILD)/.flags: FORCE
	@mkdir -p $(@D); echo '$(compile) $(LDFLAGS)' | cmp -s - $@ || echo '$(compile) $(LDFLAGS)' >$@
FORCE: ;
.PHONY: FORCE

$(BUILD)/%.o: %.c $(BUILD)/.flags
	$(call say,CC)
	@mkdir -p $(@D)
	$(Q)$(compile) -MMD -MP -c -o $@ $<
-include $(patsubst %.o,%.d,$(call obj,$(ALL_C)))

.PHONY: objects
objects: $(call obj,$(CORE) $(FS) $(TOOLS))

$(BUILD)/libfirn.a: $(call obj,$(CORE))
	$(call say,AR)
	$(Q)rm -f $@ && $(AR) rcs $@ $^
$(BUILD)/bin/firnfs: $(call obj,$(FS)) $(BUILD)/libfirn.a
$(BUILD)/bin/firn: $(call obj,$(TOOLS)) $(BUILD)/libfirn.a
$(BUILD)/bin/firnfs $(BUILD)/bin/firn:
	$(call say,LD)
	@mkdir -p $(@D)
	$(Q)$(link) -o $@ $^ $(PKG_LIBS)

# ---- tests: one program each, run in parallel, log kept, output only on failure ----
CHECK_LIBS = $(shell pkg-config --libs check)
$(call exe,$(UNIT)): $(BUILD)/%: $(BUILD)/%.o $(BUILD)/libfirn.a
	$(call say,LD)
	$(Q)$(link) -o $@ $^ $(PKG_LIBS) $(CHECK_LIBS)
$(BUILD)/%.ok: $(BUILD)/%
	$(call say,TEST)
	$(Q)$< >$<.log 2>&1 && touch $@ || { cat $<.log; exit 1; }
.PHONY: check check-asan check-tsan check-mount check-valgrind
check: all $(patsubst %,%.ok,$(filter %$(T),$(call exe,$(UNIT)))) fuzz-check
check-asan check-tsan: check-%:
	$(Q)$(MAKE) --no-print-directory VARIANT=$* check
# Each mount test has its own mount namespace: whatever it leaves behind goes with it.
$(call exe,$(MOUNT)): $(BUILD)/%: $(BUILD)/%.o $(BUILD)/tests/mount/mounted.o
	$(call say,LD)
	$(Q)$(link) -o $@ $^ $(PKG_LIBS) $(CHECK_LIBS)
check-mount: $(call exe,$(MOUNT)) $(BUILD)/bin/firnfs
	$(Q)for t in $(call exe,$(MOUNT)); do FIRNFS=$(CURDIR)/$(BUILD)/bin/firnfs timeout 300 \
	    unshare $(if $(filter 0,$(shell id -u)),,-r) -m --propagation private $$t || exit 1; done
check-valgrind: $(call exe,$(UNIT))
	$(Q)for t in $^; do CK_FORK=no G_SLICE=always-malloc valgrind -q --leak-check=full \
	    --error-exitcode=9 $$t || exit 1; done

# ---- fuzzing: same source is a fuzz target (clang) and a corpus replay (any compiler) ----
$(BUILD)/tests/fuzz/replay-%: $(BUILD)/tests/fuzz/fuzz-%.o $(BUILD)/tests/fuzz/replay.o $(BUILD)/libfirn.a
	$(call say,LD)
	$(Q)$(link) -o $@ $^ $(PKG_LIBS)
.PHONY: fuzz fuzz-check
ifeq ($(VARIANT),fuzz)
$(BUILD)/tests/fuzz/fuzz-%: $(BUILD)/tests/fuzz/fuzz-%.o $(BUILD)/libfirn.a
	$(call say,LD)
	$(Q)$(link) -fsanitize=fuzzer -o $@ $^ $(PKG_LIBS)
fuzz: $(call exe,$(FUZZ))
	$(Q)for f in $(^F); do mkdir -p tests/fuzz/corpus/$${f#fuzz-} && $(BUILD)/tests/fuzz/$$f \
	    -max_total_time=$${FUZZ_SECONDS:-60} -timeout=10 -rss_limit_mb=2048 \
	    -artifact_prefix=$(BUILD)/$$f- $(BUILD)/corpus-$$f tests/fuzz/corpus/$${f#fuzz-} || exit 1; done
$(shell mkdir -p $(patsubst tests/fuzz/%.c,$(BUILD)/corpus-%,$(FUZZ)))
fuzz-check: ;
else
fuzz:
	$(Q)$(MAKE) --no-print-directory VARIANT=fuzz fuzz
fuzz-check: $(patsubst tests/fuzz/fuzz-%.c,$(BUILD)/tests/fuzz/replay-%,$(FUZZ))
	$(Q)for r in $(^F); do $(BUILD)/tests/fuzz/$$r $$(find tests/fuzz/corpus/$${r#replay-} -type f) \
	    || { echo "FAIL $$r"; exit 1; }; done
endif

.PHONY: cov bench
cov:
	$(Q)$(MAKE) --no-print-directory VARIANT=cov check
	$(Q)gcovr --root . --filter core/ --filter fs/ --txt --html-details build/cov/report.html
$(call exe,$(BENCH)): $(BUILD)/%: $(BUILD)/%.o $(BUILD)/libfirn.a
	$(Q)$(link) -o $@ $^ $(PKG_LIBS)
bench:
	$(Q)$(MAKE) --no-print-directory VARIANT=release CFLAGS='-O3 -g' run-bench
.PHONY: run-bench
run-bench: $(call exe,$(BENCH))
	$(Q)for b in $^; do $$b || exit 1; done

# ---- static checks ----
.PHONY: lint hdr-check layers format format-check
lint: hdr-check layers format-check compile_commands.json
	$(Q)clang-tidy$(LLVM) -p . --quiet --warnings-as-errors='*' $(CORE) $(FS) $(TOOLS)
hdr-check: $(HDRS:.h=.h.hdr)
%.h.hdr: FORCE
	@echo '#include "$*.h"' | $(CC) $(FIRN_CPPFLAGS) $(FIRN_CFLAGS) -Wno-unused-function -fsyntax-only -xc -
layers:
	@tests/lint/layers.sh
format:
	$(Q)clang-format$(LLVM) -i $(ALL_C) $(HDRS)
format-check:
	$(Q)clang-format$(LLVM) --dry-run -Werror $(ALL_C) $(HDRS)
compile_commands.json: Makefile
	$(Q){ echo '['; sep=; for c in $(ALL_C); do printf '%s{"directory":"%s","file":"%s","command":"%s"}\n' \
	  "$$sep" '$(CURDIR)' "$$c" '$(subst ",\\\",$(compile)) -c '"$$c"; sep=,; done; echo ']'; } >$@

# ---- install ----
.PHONY: install uninstall clean
install: all
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/share/man/man1
	install -m 755 $(BUILD)/bin/firnfs $(BUILD)/bin/firn $(DESTDIR)$(PREFIX)/bin
	$(if $(wildcard fs/*.1 tools/*.1),install -m 644 $(wildcard fs/*.1 tools/*.1) $(DESTDIR)$(PREFIX)/share/man/man1)
uninstall:
	rm -f $(addprefix $(DESTDIR)$(PREFIX)/bin/,firnfs firn)
clean:
	rm -rf build compile_commands.json
