# Sourced by run_all.sh and run_tests.sh: a virtual environment with what a requirements file pins.
# Makes .venv unless a virtual environment is active; installs only when the file has changed.
environment() {
    local requirements=$1
    if [[ ${BASH_VERSINFO[0]}${BASH_VERSINFO[1]} -lt 44 ]]; then
        echo "error: bash 4.4 or newer is needed, this is $BASH_VERSION" >&2
        return 2
    fi
    if [[ -z ${VIRTUAL_ENV:-} ]]; then
        if [[ ! -f .venv/bin/activate ]]; then
            "${PYTHON:-python3}" -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
                { echo "error: Python 3.10 or newer is needed; name one with PYTHON=/path/to/python3" >&2; return 2; }
            "${PYTHON:-python3}" -m venv --clear .venv
        fi
        # shellcheck disable=SC1091
        source .venv/bin/activate
    fi
    export PATH=$VIRTUAL_ENV/bin:$PATH # an environment may be named without being activated
    local stamp wanted
    stamp=$VIRTUAL_ENV/.metakd-${requirements//\//-}
    wanted=$(cat "$requirements" pyproject.toml; pwd)
    if [[ $(cat "$stamp" 2>/dev/null) != "$wanted" ]]; then
        echo "installing $requirements ..."
        python -m pip install --quiet --disable-pip-version-check -r "$requirements"
        echo "$wanted" >"$stamp"
    fi
}
