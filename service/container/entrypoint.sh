#!/usr/bin/env bash
# Entry point of the container images: check the surroundings, make the build if it is missing, serve it.
#
#   (nothing)   make the build if it is missing, then serve it
#   build       make the build if it is missing, then end: for a volume that the server mounts read-only
#   serve       serve it; a build that is missing is an error; what follows goes to `auralsam2 serve`
#
# Target tensorrt: where the build can be written, engines that are missing, half-written or made for another card or
# release are built again first (`auralsam2 engines`). Where it cannot, `serve` refuses such a build and says so.
#
#   AURALSAM2_TARGET       cpu | cuda | tensorrt | onnx-gpu: what the build is for; cpu when unset
#   AURALSAM2_VOLUME       folder of all builds; /models when unset
#   AURALSAM2_BUILD        the build's own folder; when unset, one below the volume, named after all that makes it differ
#   AURALSAM2_EXPORT_<X>   options of `auralsam2 export`, as AURALSAM2_EXPORT_PRESET=hiera_large; flags by 1, as
#                          AURALSAM2_EXPORT_CLASSES=1
#   AURALSAM2_ALLOW_ROOT   1: run as root all the same
#   AURALSAM2_HOST         address for gRPC; 0.0.0.0 when unset, because loopback inside a container is its own, and a
#                          published port arrives from outside it. What may reach it is decided where the port is
#                          published: -p 127.0.0.1:8001:8001 opens it to the host alone.
#   AURALSAM2_<SETTING>    any other setting of the server (service/server/config.py)
#
# Exit status: 0 after SIGTERM or SIGINT, calls under way answered; 64 unknown command, target or option; 77 root;
# 78 no build and no way to make one; 143 stopped while building; else that of auralsam2 (service/commands/terminal.py): 3
# when the configuration does not fit, and, with AURALSAM2_GIVE_UP=1, when the server had to be restarted too often.
set -euo pipefail

readonly EXPORT_OPTIONS=" preset method image_size num_frames checkpoint sam2_checkpoint conditioning_frame read_out engine precision device layout fusion capability classes class_head text "
# Of them, those without a value: 1 sets one.
readonly EXPORT_FLAGS=" classes text "
# ONNX Runtime builds its engines at the first start on a card, which takes minutes for each stage.
readonly ONNX_READY_TIMEOUT_S=3600

say() {
    printf 'entrypoint: %s\n' "$*" >&2
}

die() {
    local -r status=$1
    shift
    say "$@"
    exit "$status"
}

check_user() {
    if [[ $(id -u) == 0 && ${AURALSAM2_ALLOW_ROOT:-0} != 1 ]]; then
        die 77 "refusing to run as root: start it with --user 1000:1000, or set AURALSAM2_ALLOW_ROOT=1 to accept the risk."
    fi
}

# The options of `auralsam2 export`, from the environment, into `options`.
read_options() {
    local variable name
    options=()
    if [[ $target != cpu ]]; then
        options+=(--target "$target")
    fi
    for variable in "${!AURALSAM2_EXPORT_@}"; do
        name=${variable#AURALSAM2_EXPORT_}
        name=${name,,}
        if [[ $EXPORT_OPTIONS != *" $name "* ]]; then
            die 64 "$variable names no option of export; known are:${EXPORT_OPTIONS% }."
        fi
        if [[ $EXPORT_FLAGS == *" $name "* ]]; then
            case ${!variable} in
                1) options+=("--${name//_/-}") ;;
                0 | '') ;;
                *) die 64 "$variable is '${!variable}'; must be 1 or 0." ;;
            esac
        elif [[ -n ${!variable} ]]; then
            options+=("--${name//_/-}" "${!variable}")
        fi
    done
}

# The card that engines are made for, as "name, compute capability". An engine fits one kind of card.
find_card() {
    local cards
    if ! cards=$(nvidia-smi --query-gpu=name,compute_cap --format=csv,noheader 2>/dev/null) || [[ -z $cards ]]; then
        die 78 "target $target needs an NVIDIA GPU and none is seen: start the container with --gpus all, or set AURALSAM2_TARGET=cpu in the cpu image."
    fi
    cards=$(sort -u <<<"$cards")
    if [[ $cards == *$'\n'* ]]; then
        die 78 "engines are made for one kind of card and several are seen (${cards//$'\n'/; }): choose with --gpus '\"device=0\"'."
    fi
    card=$cards
}

# Another target, option, card or release is another folder, so that a changed setting never serves an old build.
name_build() {
    local digest kind
    digest=$(printf '%s\n' "${AURALSAM2_RELEASE:-}" "$card" "${options[@]}" | sha256sum)
    kind=$(tr -cs 'A-Za-z0-9.\n' '-' <<<"${AURALSAM2_EXPORT_PRESET:-compact}-$target${card:+-$card}")
    printf '%s/%s-%s' "$volume" "$kind" "${digest:0:8}"
}

is_built() {
    # Export renames the folder into place when it is complete; `serve` checks every file's hash.
    [[ -f $build/manifest.json ]]
}

check_writable() {
    local -r parent=$(dirname "$build")
    local reason
    if [[ ! -d $parent ]]; then
        reason="$parent does not exist"
    elif [[ ! -w $parent || ! -x $parent ]]; then
        reason="user $(id -u) cannot write to $parent"
    else
        return 0
    fi
    die 78 "no build at $build (manifest.json is missing) and none can be made: $reason. Mount it writable and run the command build once, or name a folder that holds a build with AURALSAM2_BUILD."
}

# A command in a process group of its own, so that SIGTERM can end all of it: bash itself answers a signal only when
# the command it waits for has ended.
run() {
    local status=0
    set -m
    "$@" &
    child=$!
    set +m
    wait "$child" || status=$?
    child=
    return "$status"
}

end_child() {
    trap '' TERM INT
    if [[ -n $child ]]; then
        say "stopping"
        kill -TERM -- "-$child" 2>/dev/null || true
        for _ in {1..50}; do
            kill -0 -- "-$child" 2>/dev/null || break
            sleep 0.1
        done
        kill -KILL -- "-$child" 2>/dev/null || true
        if [[ -n $locked ]]; then
            remove_leftovers
        fi
    fi
    exit 143
}

# What a build that was killed leaves beside its folder. Only for the holder of the lock.
remove_leftovers() {
    local -r parent=$(dirname "$build") name=$(basename "$build")
    rm -rf -- "$parent/.$name".partial-* "$parent/.$name".old-*
}

# One container at a time; the file descriptor is kept in `lock`.
take_lock() {
    child=
    locked=
    trap end_child TERM INT
    exec {lock}>"$1"
    if ! flock --nonblock "$lock"; then
        say "another container is making $build; waiting for it"
        run flock "$lock"
    fi
    locked=yes
}

release_lock() {
    exec {lock}>&-
    trap - TERM INT
}

make_build() {
    local lock status=0
    # Two containers on one volume: the second waits, and then finds the build.
    take_lock "$(dirname "$build")/.$(basename "$build").lock"
    if ! is_built; then
        say "making $build for ${card:-the CPU} (auralsam2 export${options[*]:+ ${options[*]}}); this takes minutes, once"
        remove_leftovers
        SECONDS=0
        # Downloaded weights are kept in the volume; the rest of the file system may be read-only.
        run env PYTHONUNBUFFERED=1 HF_HOME="${HF_HOME:-$(dirname "$build")/.huggingface}" \
            auralsam2 export "${options[@]}" --out "$build" || status=$?
        if [[ $status != 0 ]]; then
            remove_leftovers
            die "$status" "the build failed with status $status; what is missing stands above."
        fi
        is_built || die 1 "export ended well but left no $build/manifest.json."
        say "made $build in $SECONDS s"
    fi
    release_lock
}

# Engines belong to one model of card and one release of TensorRT, and a build may have been cut short or carried over.
renew_engines() {
    local lock status=0
    # Beside the models, not among them: what lies there is served, and checked file by file.
    take_lock "$build/.engines.lock"
    # What is left of an export is no business of this step; what is left of one that was killed is.
    locked=
    rm -rf -- "$build"/.engines-*
    say "checking the engines of $build against $card"
    run env PYTHONUNBUFFERED=1 auralsam2 engines --build "$build" >&2 || status=$?
    if [[ $status != 0 ]]; then
        die "$status" "the engines could not be made, status $status; what is missing stands above."
    fi
    release_lock
}

main() {
    local -r command=${1:-all}
    local target=${AURALSAM2_TARGET:-cpu} volume=${AURALSAM2_VOLUME:-/models} card='' build child locked
    local -a options
    shift || true
    case $command in
        all | build | serve) ;;
        *) die 64 "unknown command '$command'; known are build, serve, and none for both. Other verbs: --entrypoint auralsam2." ;;
    esac
    case $target in
        cpu | tensorrt | onnx-gpu) ;;
        *) die 64 "AURALSAM2_TARGET=$target is unknown; choose cpu, tensorrt or onnx-gpu." ;;
    esac
    check_user
    read_options
    if [[ $target != cpu ]]; then
        find_card
    fi
    build=${AURALSAM2_BUILD:-$(name_build)}
    if ! is_built; then
        if [[ $command == serve ]]; then
            die 78 "no build at $build (manifest.json is missing): make it with the command build, or name one with AURALSAM2_BUILD."
        fi
        check_writable
        make_build
    fi
    if [[ $target == tensorrt && -w $build ]]; then
        renew_engines
    fi
    if [[ $command == build ]]; then
        say "$build is there"
        return
    fi
    if [[ $target == onnx-gpu ]]; then
        export AURALSAM2_READY_TIMEOUT_S=${AURALSAM2_READY_TIMEOUT_S:-$ONNX_READY_TIMEOUT_S}
    fi
    # In place of this shell, so that SIGTERM reaches the supervisor, which lets calls under way finish.
    exec auralsam2 serve --build "$build" --host "${AURALSAM2_HOST:-0.0.0.0}" "$@"
}

main "$@"
