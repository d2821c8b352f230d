#!/bin/sh
# Set the environment variables that suit this processor in the running shell:
#
#     source bigdl-nano-init           (bash, zsh, ksh, mksh; `. bigdl-nano-init` everywhere)
#     source bigdl-nano-unset-env      restores the previous values
#
# Set options in NANO_INIT_ARGS, such as "--threads 4" (`nano-init --help` lists them). bash
# and zsh also accept them after the file name; other shells cannot distinguish them from the
# arguments of the script that sources this file. For fish, csh and PowerShell see
# `nano-init --help`.
#
# All of this runs in a command substitution, hence in a subshell: it leaves no name, option,
# alias or trap behind. Your shell evaluates only its output: what nano-init printed, if that
# is complete, or else a command that returns 2. Comments there contain no apostrophe and no
# unpaired closing parenthesis, because bash 3.2 would end the substitution at it.
#
# shellcheck disable=SC3028  # BASH_SOURCE and BASH_ARGV are unset in other shells
\eval "$(
  # zsh keeps the last word of the sourcing command in $_ until the next command runs.
  \set -- "${_-}" ${1+"$@"}
  # A function of the user may hide a command of the same name; ksh93 would unset both.
  case ${BASH_VERSION-}${ZSH_VERSION-}:${KSH_VERSION-} in
    (:*93*) ;;
    (:*) \unset -f command printf python3 read readlink ;;
    (*)
      \builtin unset -f command emulate eval exit export printf python3 read readlink \
        set shift unalias unset
      ;;
  esac 2>/dev/null || :
  (
    # In zsh "command" would mean an external program, and warn_create_global would print.
    [ -z "${ZSH_VERSION-}" ] || \emulate -R sh
    \set +eu
    IFS=' '
    nano_last=$1
    \shift

    nano_refuse() {
      \printf 'bigdl-nano-init: %s\n' "$1" >&2
      \exit 2
    }

    # Find the shell and the file, whether it is sourced, and whether the arguments are for it.
    nano_kind=sh nano_file='' nano_sourced=yes nano_ours=''
    if [ -n "${ZSH_VERSION-}" ]; then
      nano_kind=zsh
      \eval "nano_file=\${(%):-%x}"
      case ${ZSH_EVAL_CONTEXT-file} in (*file*) ;; (*) nano_sourced='' ;; esac
      for nano_ours do :; done
      [ "$nano_ours" = "$nano_last" ] || nano_ours=''
      case $nano_ours in (*bigdl-nano-init | *bigdl-nano-init.sh) nano_ours='' ;; esac
    elif [ -n "${BASH_VERSION-}" ]; then
      nano_kind=bash
      nano_file=${BASH_SOURCE-}
      [ "$nano_file" != "$0" ] || (\return 0) 2>/dev/null || nano_sourced=''
      # Sourced without arguments, bash puts the name of the file there (evalfile.c).
      [ "${BASH_ARGV-}" = "$nano_file" ] || nano_ours=yes
    else
      case ${KSH_VERSION-} in
        (*93*) nano_kind=ksh; \eval "nano_file=\${.sh.file}" ;;
      esac
      case ${0##*/} in (bigdl-nano-init | bigdl-nano-init.sh) nano_sourced='' ;; esac
    fi
    if [ -z "$nano_sourced" ]; then
      \printf '%s: source this file, do not execute it: source %s\n' bigdl-nano-init bigdl-nano-init >&2
      # Other shells only guess from $0; a guess must not end the shell of the user.
      case $nano_kind in (bash | zsh) \printf '\\exit 2\n' && \exit 0 ;; esac
      \exit 2
    fi
    [ -n "$nano_ours" ] || \set --
    [ -z "${NANO_INIT_ARGS+x}" ] || \export NANO_INIT_ARGS
    # nano-init is next to this file, or on PATH.
    \unalias nano-init 2>/dev/null || :
    \unset -f nano-init 2>/dev/null || :
    case $nano_file in (*/*) ;; (*) nano_file='' ;; esac
    nano_init=${nano_file%/*}/nano-init
    [ -n "$nano_file" ] && [ -x "$nano_init" ] || nano_init=$(\command -v nano-init)
    if [ -z "$nano_init" ] && \read -r _ _ _ nano_parent _ 2>/dev/null </proc/self/stat; then
      # dash, mksh and busybox do not say which file they read, but Linux does: their
      # parent shell has it open, unlike the two subshells around this.
      \read -r _ _ _ nano_parent _ 2>/dev/null </proc/"$nano_parent"/stat || :
      \set +f
      for nano_file in /proc/"$nano_parent"/fd/*; do
        nano_file=$(\readlink "$nano_file" 2>/dev/null)
        case $nano_file in (*/bigdl-nano-init) nano_init=${nano_file%/*}/nano-init ;; esac
      done
    fi
    if [ -x "$nano_init" ]; then
      \read -r nano_line <"$nano_init"
      case $nano_line in
        ("#!"*)
          nano_line=${nano_line#??}
          nano_line=${nano_line# }
          [ -x "${nano_line%% *}" ] ||
            nano_refuse "install nano-init again: ${nano_line%% *}, which runs $nano_init, does not exist"
          ;;
      esac
      \set -- "$nano_init" --shell "$nano_kind" ${1+"$@"}
    else
      \command python3 -c "import nano_init" 2>/dev/null ||
        nano_refuse "nano-init is neither next to this file nor on PATH"
      nano_init="python3 -m nano_init"
      \set -- python3 -m nano_init --shell "$nano_kind" ${1+"$@"}
    fi

    nano_code=$("$@")
    nano_status=$?
    case $nano_status in
      (0) ;;
      (2) \exit 2 ;;
      (*) nano_refuse "$nano_init failed with status $nano_status; nothing was changed" ;;
    esac
    case $nano_code in
      ("" | "if ("*fi) \printf '%s\n' "$nano_code" ;;
      (*) nano_refuse "$nano_init did not print code for a shell; nothing was changed" ;;
    esac
  ) || \printf '(\\exit 2)\n'
)" || case ${BASH_VERSION-}${ZSH_VERSION-}${KSH_VERSION-}:$- in
  # In dash and busybox, errexit sees what fails in a sourced file even before an "or";
  # it ignores only negated commands, and those cannot return 2.
  (:*e*) ! \: ;;
  (*) \return 2 ;;
esac
