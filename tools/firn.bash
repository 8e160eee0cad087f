# Completion of firn(1) for bash.
declare -A _firn_options=(
    [init]=""
    [mount]="-b --branch --tag --snapshot --as-of -r --read-only --name --fork --resume --virtual --state-dir -o --options -f --foreground"
    [umount]="--export --discard"
    [run]="-m --message -b --branch --rebase --state-dir -o --options"
    [status]=""
    [diff]="-c --chunks --repo --state-dir"
    [discard]="--fork --repo --state-dir"
    [fork]="-o --output"
    [merge]="-o --output --favor --repo --state-dir"
    [commit]="-m --message --metadata --rebase --favor --amend --allow-empty --force --fork --expect --repo --state-dir"
    [journal]="-o --output --repo --state-dir"
    [sessions]="--state-dir"
    [log]="-b --ref -n --number"
    [show]="-b --ref"
    [ls]="-b --ref -l --long -R --recursive"
    [cat]="-b --ref --virtual"
    [branch]=""
    [tag]=""
    [reset]="--expect"
    [fsck]="--deep --repair"
    [doctor]="--state-dir"
)

_firn() {
    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}
    local command=${COMP_WORDS[1]}
    COMPREPLY=()
    if ((COMP_CWORD == 1)); then
        mapfile -t COMPREPLY < <(compgen -W "${!_firn_options[*]} help --help --version" -- "$current")
        return
    fi
    case $previous in
        --favor) mapfile -t COMPREPLY < <(compgen -W "first last" -- "$current"); return ;;
        --state-dir) mapfile -t COMPREPLY < <(compgen -d -- "$current"); return ;;
        -m|--message|--metadata|--expect|-n|--number|--as-of|--name) return ;;
    esac
    case $current in
        --rebase=*) mapfile -t COMPREPLY < <(compgen -P --rebase= -W "fail ours theirs" -- "${current#*=}") ;;
        -*) mapfile -t COMPREPLY < <(compgen -W "${_firn_options[$command]} --json --help" -- "$current") ;;
        *)
            if ((COMP_CWORD == 2)); then
                case $command in
                    branch|tag) mapfile -t COMPREPLY < <(compgen -W "list create delete" -- "$current"); return ;;
                    journal) mapfile -t COMPREPLY < <(compgen -W "show verify export" -- "$current"); return ;;
                    help) mapfile -t COMPREPLY < <(compgen -W "${!_firn_options[*]}" -- "$current"); return ;;
                esac
            fi
            mapfile -t COMPREPLY < <(compgen -f -- "$current")
            ;;
    esac
}
complete -o filenames -F _firn firn
