package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"tidegate/gateway/jobs/bundle"
	"tidegate/gateway/localapi/localclient"
	"tidegate/gateway/secret"
)

// jobExport writes a signed job.
func jobExport(w *world) *cobra.Command {
	a := &asking{w: w}
	var out, key, password string
	var unsigned bool
	c := a.dataFlag(&cobra.Command{Use: "export ID", Short: "write a job and its files into one signed file, for a gateway that no network reaches", Args: cobra.ExactArgs(1),
		Long: `Write a job, the files and streams that its document refers to, and a signature over all
of it into one file. The secret key is minisign's, as minisign -G makes it; it does not
leave this command. The other gateway has the public key under jobs.signers in its
configuration and takes the file with job import.

With --unsigned only what is to be signed is written, for a key that is kept elsewhere:

  tidegate job export fw-7 --unsigned --out job.tar
  minisign -S -m job.tar
  tar cf fw-7.job job.tar.minisig job.tar`,
		Example: `  tidegate job export fw-7 --key ~/.minisign/minisign.key --out /media/stick/fw-7.job`,
		RunE: func(c *cobra.Command, args []string) error {
			cl, id := a.client(), args[0]
			if unsigned == (key != "") {
				return misuse(fmt.Errorf("how is it to be signed? name --key FILE, or --unsigned"))
			}
			if out == "" {
				out = id + map[bool]string{false: ".job", true: ".tar"}[unsigned]
			}
			if unsigned {
				return writeFile(out, func(f *os.File) error { return cl.ExportJob(c.Context(), id, f) })
			}
			k, err := secretKey(w, key, secret.Text(password))
			if err != nil {
				return err
			}
			return a.export(c.Context(), cl, id, out, k)
		}})
	c.Flags().StringVar(&out, "out", "", "the `FILE` to write (default ID.job; ID.tar with --unsigned)")
	c.Flags().StringVar(&key, "key", "", "the `FILE` with minisign's secret key")
	c.Flags().StringVar(&password, "password", "", "the key's password, as file:PATH or env:NAME (default: it is asked for)")
	c.Flags().BoolVar(&unsigned, "unsigned", false, "write what is to be signed, and no signature")
	return c
}

// export signs what the gateway gives, by way of a file that is gone afterwards.
func (a *asking) export(ctx context.Context, cl *localclient.Client, id, out string, k bundle.Key) error {
	tmp, err := os.CreateTemp(filepath.Dir(out), ".tidegate-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	defer tmp.Close()
	if err := cl.ExportJob(ctx, id, tmp); err != nil {
		return err
	}
	n, err := tmp.Seek(0, io.SeekCurrent)
	if err != nil {
		return err
	}
	signature, err := k.Sign(io.NewSectionReader(tmp, 0, n), "tidegate job "+id)
	if err != nil {
		return err
	}
	err = writeFile(out, func(f *os.File) error { return bundle.Write(f, io.NewSectionReader(tmp, 0, n), n, signature) })
	if err == nil {
		fmt.Fprintf(a.w.errOut, "%s holds the job %s (%s)\n", out, id, size(n))
	}
	return err
}

// writeFile writes a file to the disk, which may be a stick that is pulled out next, or
// leaves what was there.
func writeFile(path string, write func(f *os.File) error) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".tidegate-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // gone when it was renamed
	err = write(f)
	if err == nil {
		err = f.Chmod(0o644) // a stick's file system has no modes
		if errors.Is(err, os.ErrPermission) {
			err = nil
		}
	}
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// secretKey reads a secret key, and asks for its password if that is needed and not given.
func secretKey(w *world, path string, password secret.Text) (bundle.Key, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return bundle.Key{}, err
	}
	pass := ""
	switch {
	case !bundle.Locked(text):
	case password.Set():
		if s := string(password); !strings.HasPrefix(s, "file:") && !strings.HasPrefix(s, "env:") {
			return bundle.Key{}, misuse(fmt.Errorf("--password is where the password is, file:PATH or env:NAME: what stands on a command line is seen by everybody"))
		}
		if pass, err = password.Reveal(w.env); err != nil {
			return bundle.Key{}, err
		}
	default:
		if pass, err = askPassword(w); err != nil {
			return bundle.Key{}, err
		}
	}
	k, err := bundle.ParseKey(text, pass)
	if errors.Is(err, bundle.ErrPassword) {
		return k, fmt.Errorf("%s: %w: give the one it was made with, or name where it is with --password file:PATH or env:NAME", path, err)
	}
	if err != nil {
		return k, fmt.Errorf("%s: %w", path, err)
	}
	return k, nil
}

// askPassword reads a line that is not shown on a terminal.
func askPassword(w *world) (string, error) {
	fmt.Fprint(w.errOut, "password of the secret key: ")
	defer fmt.Fprintln(w.errOut)
	if f, ok := w.in.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		b, err := term.ReadPassword(int(f.Fd()))
		return string(b), err
	}
	line, err := bufio.NewReader(w.in).ReadString('\n')
	if err != nil && line == "" {
		return "", fmt.Errorf("there is no password: name where it is with --password")
	}
	return strings.TrimRight(line, "\r\n"), nil
}

// jobImport takes a signed job.
func jobImport(w *world) *cobra.Command {
	a := &asking{w: w}
	var watch bool
	c := a.flags(&cobra.Command{Use: "import FILE", Short: "take a signed job from a file, as from a USB stick", Args: cobra.ExactArgs(1),
		Long: `Take a job that job export has written, with its files. It must be signed with a key whose
public half stands under jobs.signers in the configuration, be newer than the last one of
that signer, and be for things and groups that are here. From then on it is a job as any
other. What becomes of it is sent on $aws/events/job/… and $aws/events/jobExecution/…,
and reaches an upstream that has a route for $aws/events/# when the link is there.`,
		Example: `  tidegate job import /media/stick/fw-7.job --watch`,
		RunE: func(c *cobra.Command, args []string) error {
			f, err := os.Open(args[0])
			if err != nil {
				return err
			}
			defer f.Close()
			if info, err := f.Stat(); err != nil || info.IsDir() {
				return errors.Join(err, fmt.Errorf("%s is a folder, expected a file that job export has written", args[0]))
			}
			cl := a.client()
			x, err := cl.ImportJob(c.Context(), a.uploading(f, filepath.Base(args[0])))
			if err != nil {
				return err
			}
			if watch {
				return a.watchJob(c.Context(), cl, x.Job)
			}
			return a.print(x, func() {
				fmt.Fprintln(w.out, x.ARN)
				fmt.Fprintf(w.errOut, "signed with the key %s (%s)\n", x.Signer, orDash(x.Comment))
			})
		}})
	c.Flags().BoolVar(&watch, "watch", false, "show how far it is until it is over")
	return c
}

// jobFetch gets what a job of the gateway's own has left: its diagnostics.
func jobFetch(w *world) *cobra.Command {
	a := &asking{w: w}
	var out string
	c := a.dataFlag(&cobra.Command{Use: "fetch ID", Short: "get the file that a job of the gateway has made: the diagnostics", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			cl, ctx := a.client(), c.Context()
			j, err := readJob(ctx, cl, args[0], true)
			if err != nil {
				return err
			}
			for _, e := range j.Executions {
				details, err := execution(ctx, cl, j.ID, lastOf(e.Thing))
				if err != nil {
					return err
				}
				bucket, key, ok := strings.Cut(details["file"], "/")
				if !ok {
					continue
				}
				if out == "" {
					return cl.ReadFile(ctx, bucket, key, w.out)
				}
				return writeFile(out, func(f *os.File) error { return cl.ReadFile(ctx, bucket, key, f) })
			}
			return fmt.Errorf("the job %s has made no file yet", j.ID)
		}})
	c.Flags().StringVar(&out, "out", "", "the `FILE` to write (default: standard output)")
	return c
}
